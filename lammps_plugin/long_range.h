// What every solver of the long-range energy gives back to the pair style.
#pragma once

#include <array>
#include <vector>

namespace equicalc_lammps {

// Per-atom numbers are in the order of the atoms given to the solver.
struct LongRange {
    double energy = 0.0;                              // eV, of all ranks together
    std::array<double, 6> virial{};                   // eV, of all ranks; xx yy zz xy xz yz
    std::vector<double> potentials;                   // dE/dq, V
    std::vector<double> atom_energies;                // eV
    std::vector<std::array<double, 6>> atom_virials;  // eV; empty unless asked for
    // sum_i (r_i - r_j) q_i G_ij over all charges and images, V angstrom: potentials, each times
    // the way to its source; empty unless asked for
    std::vector<std::array<double, 3>> source_moments;
};

// What a KSPACE style is, besides, which knows source moments.
class KnowsSourceMoments {
  public:
    virtual ~KnowsSourceMoments() = default;
    // From the next sum on.
    virtual void ask_for_source_moments(bool wanted) = 0;
    // Of the last sum, [nlocal][3].
    virtual const std::vector<double> &source_moments() const = 0;
};

// Coulomb's constant of the model files, eV angstrom / e^2. The same number as in equicalc.h, whose
// torch headers the solvers do not need; pair_equicalc.cpp checks that they agree.
inline constexpr double kCoulomb = 14.399645478425668;

}  // namespace equicalc_lammps
