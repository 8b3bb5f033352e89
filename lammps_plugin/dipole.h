// The dipole M of a model's charges, which an electric field F acts on with the energy -F.M:
//   transferred charges   M = sum_i [n_i + f (q_i - q~_i)] r_i + f mu_i
//   all others            M = sum_i f q_i r_i
// with formal charges n, raw charges q~, bond dipoles mu and the screening factor f =
// sqrt(epsilon_inf). Positions are unwrapped by image flags, so that M is continuous when an atom
// crosses the boundary.
#pragma once

#include "equicalc.h"
#include "units.h"

#include <array>
#include <span>
#include <vector>

namespace LAMMPS_NS {
class LAMMPS;
}

namespace equicalc_lammps {

using Vector = std::array<double, 3>;

struct Dipole {
    std::vector<double> moved;   // factor of each position, e
    std::vector<Vector> shares;  // of each atom, e angstrom; they sum to M
};

// charges (e) and variables [n_local, K] of the given atoms of this rank; species of theirs.
Dipole dipole_of(LAMMPS_NS::LAMMPS *lmp, const Units &units, const equicalc::ModelInfo &info,
                 std::span<const int> atoms, std::span<const int> species_of_type,
                 const torch::Tensor &variables, std::span<const double> charges);

// d(-F.M)/dq of charges that move at fixed positions, V: -f F.r for each atom.
std::vector<double> field_potentials(LAMMPS_NS::LAMMPS *lmp, const Units &units,
                                     const equicalc::ModelInfo &info, std::span<const int> atoms,
                                     const Vector &field);

}  // namespace equicalc_lammps
