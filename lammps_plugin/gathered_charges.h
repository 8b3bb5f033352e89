// Positions and charges of the atoms of all ranks, on every rank in the same order.
#pragma once

#include "units.h"

#include <cstddef>
#include <vector>

namespace LAMMPS_NS {
class LAMMPS;
}

namespace equicalc_lammps {

class GatheredCharges {
  public:
    // Gathers atoms that have a charge, in angstrom from the lower corner of the box and e. A mesh
    // feels where it begins: so it moves with a box that is dilated about its middle. Collective.
    void gather(LAMMPS_NS::LAMMPS *lmp, const Units &units);

    std::size_t size() const { return charges_.size(); }
    const double *positions() const { return positions_.data(); }  // [size][3]
    const double *charges() const { return charges_.data(); }
    // Those of this rank: the first of them, and the atom that each one is.
    std::size_t first() const { return first_; }
    const std::vector<int> &own() const { return own_; }
    const std::vector<int> &counts() const { return counts_; }  // of every rank
    // Whether all numbers are finite; the same on all ranks.
    bool is_finite() const;

    std::size_t memory_bytes() const;

  private:
    std::vector<int> own_, counts_, starts_;
    std::vector<double> positions_, charges_;
    std::size_t first_ = 0;
};

}  // namespace equicalc_lammps
