// Coulomb energy of Gaussian charges by exact sums: periodic (waves) and open (pairs).
//
// Plain C++ without torch and Python. Results do not depend on the number of threads, bit for bit:
// every number is accumulated by one thread in one order.
#pragma once

#include <cstddef>
#include <vector>

namespace equicalc {

// Gaussian charges, in e and angstrom.
struct Charges {
    std::size_t n = 0;
    const double *charges = nullptr;    // [n]
    const double *positions = nullptr;  // [n][3]
    const double *sigmas = nullptr;     // [n] widths, positive
};

// Energy and first derivatives, in eV, angstrom and e. Matrices are row-major.
struct CoulombSum {
    double energy = 0.0;
    std::vector<double> potentials;    // [n] dE/dq
    std::vector<double> forces;        // [n][3] -dE/dr at fixed charges
    double virial[9] = {};             // -dE/d(strain)
    std::vector<double> atom_virials;  // [n][3][3], sum to the virial; empty unless asked for
    // [n][3] sum_i (r_i - r_j) q_i G_ij over charges and images: potentials at j, each times the
    // way to its source. Of the mesh alone, empty unless asked for.
    std::vector<double> source_moments;
};

struct CoulombOptions {
    double k_inner = 0.0;       // |k| where the weight of a wave starts to fall from 1 ...
    double k_outer = 0.0;       // ... and where it is 0, 1/angstrom (open_sum uses neither)
    bool atom_virials = false;  // also fill CoulombSum::atom_virials
    int threads = 1;
};

// Three periodic directions, tin-foil boundary, neutralising background:
//   E = 2 pi k_e / V  sum_{k != 0} t(k) / k^2 |sum_j q_j exp(-sigma_j^2 k^2 / 2) exp(i k r_j)|^2
//       - k_e / (2 sqrt(pi)) sum_j q_j^2 / sigma_j  - 2 pi k_e / V Q sum_j q_j sigma_j^2,
// the reciprocal part of Ewald's sum (Ann. Phys. 369, 253 (1921)) with the splitting width equal to
// the width of the charges, which leaves no real-space part. Per-atom virials share the virial of
// every pair of waves between its two charges (Heyes, Phys. Rev. B 49, 755 (1994)). cell [3][3]
// (rows are vectors; volume not zero). The cost grows with the number of different widths.
CoulombSum bulk_sum(const Charges &atoms, const double *cell, const CoulombOptions &options);

// No periodic direction:
//   E = k_e sum_{i<j} q_i q_j erf(r_ij / sqrt(2 (sigma_i^2 + sigma_j^2))) / r_ij.
CoulombSum open_sum(const Charges &atoms, const CoulombOptions &options);

}  // namespace equicalc
