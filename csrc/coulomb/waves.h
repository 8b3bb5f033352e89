// What the exact and the mesh sum over waves have in common.
#pragma once

#include <cstddef>
#include <vector>

#include "coulomb/ewald.h"

namespace equicalc {

constexpr double kCoulomb = 14.399645478425668;  // eV A / e^2, as equicalc.electrostatics
constexpr double kPi = 3.14159265358979323846;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
// The package is built for any x86-64; the loader picks the widest version this machine has. (Names
// of levels ask for what it can do; names of processors, as "arch=haswell", for that very one.)
#define EQUICALC_VECTOR \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EQUICALC_VECTOR
#endif

// Reciprocal cell: s = r . inverse are the fractional coordinates of r, k = 2 pi inverse . h.
struct Reciprocal {
    double inverse[3][3];
    double volume;
};

// The rows of `cell` are the cell vectors.
Reciprocal make_reciprocal(const double *cell);

// Atoms sorted by width: those of one width follow each other in `order`.
struct WidthGroups {
    std::vector<double> sigma;        // [groups], ascending
    std::vector<std::size_t> start;   // [groups + 1], first of a group in `order`
    std::vector<std::size_t> order;   // [n] atoms
    std::vector<std::size_t> member;  // [n] group of each atom

    std::size_t size() const { return sigma.size(); }
};

// `groups` keeps its memory.
void group_by_width(std::size_t n, const double *sigmas, WidthGroups &groups);

// Weight t(k) / k^2 of a wave and its derivative with respect to k^2.
struct Weight {
    double value = 0.0, slope = 0.0;
};

Weight wave_weight(double k_sq, const CoulombOptions &options);

// A result of the right sizes filled with zeros.
CoulombSum empty_sum(std::size_t n, const CoulombOptions &options);

// Adds the self energy and the background; the background alone depends on the volume.
void add_self_and_background(std::size_t n, const double *charges, const double *sigmas,
                             double volume, const CoulombOptions &options, CoulombSum &result);

}  // namespace equicalc
