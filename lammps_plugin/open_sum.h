// The long-range energy of a cluster: no periodic direction, no KSPACE style.
#pragma once

#include "long_range.h"

#include <span>

namespace LAMMPS_NS {
class LAMMPS;
}

namespace equicalc_lammps {

// Sum over all pairs of k q_i q_j erf(r / (2 sigma)) / r for charges (e) of the given atoms of each
// rank; its cost grows with the square of the number of atoms. Forces go to atom->f, charges to
// atom->q. Collective.
LongRange open_sum(LAMMPS_NS::LAMMPS *lmp, double sigma, std::span<const int> atoms,
                   std::span<const double> charges);

}  // namespace equicalc_lammps
