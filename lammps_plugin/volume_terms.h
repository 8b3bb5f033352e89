// Parts of the virial that LAMMPS' Ewald and PPPM styles leave out: those of the energy terms which
// depend on the box but not on its reciprocal vectors. Both vanish for neutral bulk.
#pragma once

#include "long_range.h"
#include "units.h"

#include <span>

namespace LAMMPS_NS {
class LAMMPS;
}

namespace equicalc_lammps {

// Adds to the virials of `result` (and, if it has them, to the atom virials) the parts of
//   the neutralising background  E = -pi k Q^2 / (2 g^2 V)
//   the slab correction          E = 2 pi k (M^2 - Q S - Q^2 L^2 / 12) / V
// with total charge Q = sum q, M = sum q z, S = sum q z^2, L and V the height and volume of the
// box including the empty part of a slab, g the splitting parameter (1/angstrom). Collective.
void add_volume_terms(LAMMPS_NS::LAMMPS *lmp, const Units &units, double splitting,
                      std::span<const int> atoms, std::span<const double> charges,
                      LongRange &result);

}  // namespace equicalc_lammps
