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
#include <cmath>
#include <span>
#include <vector>

namespace LAMMPS_NS {
class LAMMPS;
}

namespace equicalc_lammps {

using Vector = std::array<double, 3>;

struct DipoleShare {
    double moved = 0.0;  // factor of the position, e
    Vector dipole{};     // e angstrom; those of all atoms sum to M
    Vector bond{};       // its part f mu_i
};

// Of charges (e) and variables [n_local, K] of the given atoms of this rank; species of theirs.
class DipoleOfAtoms {
  public:
    DipoleOfAtoms(LAMMPS_NS::LAMMPS *lmp, const Units &units, const equicalc::ModelInfo &info,
                  std::span<const int> atoms, std::span<const int> species_of_type,
                  const torch::Tensor &variables, std::span<const double> charges)
        : lmp_(lmp),
          units_(units),
          info_(info),
          atoms_(atoms),
          species_of_type_(species_of_type),
          variables_(variables),
          charges_(charges),
          screening_(std::sqrt(info.epsilon_inf)) {}

    size_t count() const { return atoms_.size(); }
    DipoleShare of(size_t row) const;

  private:
    LAMMPS_NS::LAMMPS *lmp_;
    const Units &units_;
    const equicalc::ModelInfo &info_;
    std::span<const int> atoms_, species_of_type_;
    const torch::Tensor &variables_;
    std::span<const double> charges_;
    double screening_;
};

// d(-F.M)/dq of charges that move at fixed positions, V: -f F.r for each atom; empty without field.
std::vector<double> field_potentials(LAMMPS_NS::LAMMPS *lmp, const Units &units,
                                     const equicalc::ModelInfo &info, std::span<const int> atoms,
                                     const Vector &field);

}  // namespace equicalc_lammps
