// Gaussian charges of different widths: what the mesh, which knows only the widest, leaves to
// pairs.
//
// With g = 1/(2 s_max) the KSPACE style gives E_K, the energy of charges that all have the widest
// width s_max. The definition is the pair energy k q_i q_j erf(c_ij r)/r over all pairs and images
// with c_ij = 1/sqrt(2 (s_i^2 + s_j^2)), without any interaction of a charge with itself, so
//   E = E_K + k sum_{pairs, images} q_i q_j h_ij(r),  h_ij(r) = [erf(c_ij r) - erf(g r)] / r.
// Nothing else: E_K leaves out self-interactions too, and the mean of h over the cell is the change
// of the neutralising background. h falls like erfc(g r)/r; over the last tenth of its range it is
// tapered, so that energies do not jump when a pair leaves the range.
#pragma once

#include "long_range.h"
#include "units.h"

#include "pointers.h"

#include <span>
#include <vector>

namespace LAMMPS_NS {
class NeighList;
}

namespace equicalc_lammps {

class WidthPairs : protected LAMMPS_NS::Pointers {
  public:
    // Widths in angstrom of atom types 1, 2, ... (entry 0 unused; 0: a type without charge).
    WidthPairs(LAMMPS_NS::LAMMPS *lmp, const Units &units, std::vector<double> sigma_of_type);

    // From the accuracy of the KSPACE style relative to the force between two charges e at 1
    // angstrom: the taper begins where the force of h falls below it.
    void set_accuracy(double relative);
    // Range of h in angstrom; 0 for types whose pairs the mesh describes alone.
    double range(int type, int other) const { return kernel(type, other).range; }
    double widest() const { return widest_; }

    // Whether there are such pairs at all.
    bool empty() const { return empty_; }

    // The pairs of the given atoms of this rank at the present positions. row_of_atom: row of each
    // local and ghost atom among the charges given to the functions below, or -1.
    void find(const LAMMPS_NS::NeighList &list, std::span<const int> atoms,
              std::span<const int> row_of_atom);

    // Adds dE/dq of the pairs to the potentials of the atoms; charges (e) of all rows.
    void add_potentials(std::span<const double> charges, std::vector<double> &potentials) const;
    // Adds energy, virial, and all that is per atom to `result`, forces to atom->f. Collective.
    void add(std::span<const double> charges, std::span<const int> atoms, LongRange &result) const;

  private:
    struct Kernel {
        double c = 0.0;  // c_ij, 1/angstrom
        double range = 0.0;
    };
    struct Pair {
        int row, other_row;
        double d[3];              // from the other atom to that of the row, angstrom
        double potential, field;  // k h(r) and -(1/r) d/dr of it
    };
    const Kernel &kernel(int type, int other) const {
        return kernels_[type * sigma_of_type_.size() + other];
    }
    Pair at_distance(const Kernel &kernel, double r) const;

    Units units_;
    std::vector<double> sigma_of_type_;
    std::vector<Kernel> kernels_;
    std::vector<Pair> pairs_;
    double widest_ = 0.0, splitting_ = 0.0;
    bool empty_ = true;
};

}  // namespace equicalc_lammps
