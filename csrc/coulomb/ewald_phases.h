// The waves of the exact sum and the phases of the atoms. Private to ewald.cpp.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "coulomb/waves.h"

namespace equicalc {

// Atoms are handled in blocks of this many: one or two vector registers.
constexpr std::size_t kLanes = 8;

// Places of atoms in the tables: by width, each width filled up to whole blocks.
struct Slots {
    static constexpr std::size_t kEmpty = static_cast<std::size_t>(-1);
    std::vector<std::size_t> atom;   // [slots] atom, or kEmpty
    std::vector<std::size_t> start;  // [groups + 1] first slot of a width
};

Slots make_slots(const WidthGroups &groups);

// exp(2 pi i h s) for h = 0..extent, stored [h][atom] with separate real and imaginary part.
struct PhaseTable {
    std::size_t stride = 0;
    std::vector<double> re, im;

    // Phases of `fractional` [slots] for h = 0..extent.
    void fill(const std::vector<double> &fractional, int extent, int threads);
};

struct Lattice {
    Reciprocal reciprocal;  // of the sorted cell vectors: the longest last, as the innermost loop
    int extent[3];          // largest |h| of each
};

// Sorts the cell vectors; `k_max` bounds the waves.
Lattice make_lattice(const double *cell, double k_max);

// exp(i k r) of all slots along the three reciprocal vectors; empty slots sit on the origin.
std::array<PhaseTable, 3> phase_tables(const Slots &slots, const double *positions,
                                       const Lattice &lattice, int threads);

// The waves which share h1 and h2 form a line; S(k) and weights are stored for h3 =
// -extent..extent.
struct Line {
    int h1, h2;
    int extent;          // largest |h3| with a weight
    std::size_t offset;  // of h3 = 0 in the arrays over waves
};

// What belongs to a wave whatever the charges; stored as the structure factor is.
struct Waves {
    std::vector<Line> lines;
    std::vector<double> k;  // [waves][3]
    std::vector<double> k_sq;
    std::vector<Weight> weights;

    std::size_t size() const { return k_sq.size(); }
};

// Lines of the half space: of k and -k only one is summed, with twice the weight. In the plane h1 =
// 0 this keeps h2 > 0, and on the line h1 = h2 = 0 both signs of h3, each once.
Waves make_waves(const Lattice &lattice, const CoulombOptions &options);

}  // namespace equicalc
