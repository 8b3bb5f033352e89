// The long-range energy of a cluster: no periodic direction, no KSPACE style.
#pragma once

#include "long_range.h"
#include "units.h"

#include <span>
#include <vector>

namespace LAMMPS_NS {
class LAMMPS;
}

namespace equicalc_lammps {

// Sum over all pairs of k q_i q_j erf(r / sqrt(2 (s_i^2 + s_j^2))) / r for charges (e) of the given
// atoms of each rank, with the width s (angstrom) of each atom type (entry 0 unused); its cost
// grows with the square of the number of atoms. Forces go to atom->f, charges to atom->q.
// Collective.
LongRange open_sum(LAMMPS_NS::LAMMPS *lmp, const Units &units,
                   std::span<const double> sigma_of_type, std::span<const int> atoms,
                   std::span<const double> charges, bool with_source_moments);

// Only dE/dq (V) of the same; nothing else changes. Collective.
std::vector<double> open_potentials(LAMMPS_NS::LAMMPS *lmp, const Units &units,
                                    std::span<const double> sigma_of_type,
                                    std::span<const int> atoms, std::span<const double> charges);

}  // namespace equicalc_lammps
