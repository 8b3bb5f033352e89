// Where to begin the search for equilibrated charges: on the parabola through the charges of the
// last three steps of a dynamics run. Only the length of the search depends on it.
#pragma once

#include "units.h"

#include "pointers.h"

#include "lmptype.h"

#include <array>
#include <span>
#include <unordered_map>
#include <vector>

namespace equicalc_lammps {

class ChargeHistory : protected LAMMPS_NS::Pointers {
  public:
    ChargeHistory(LAMMPS_NS::LAMMPS *lmp, const Units &units) : Pointers(lmp), units_(units) {}

    // Charges (e) to begin with for the given atoms of this rank. Atoms that came from another
    // rank, and all atoms outside of dynamics, begin with those they have in atom->q.
    std::vector<double> start(std::span<const int> atoms) const;
    // The charges that were found at this step.
    void record(std::span<const int> atoms, std::span<const double> charges);

  private:
    static constexpr int kSteps = 3;
    struct Past {
        std::array<double, kSteps> charges{};  // the last one first
        int known = 0;
    };
    bool continues() const;

    Units units_;
    std::unordered_map<LAMMPS_NS::tagint, Past> past_;
    LAMMPS_NS::bigint last_step_ = -1;
};

}  // namespace equicalc_lammps
