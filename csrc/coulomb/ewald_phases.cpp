#include "coulomb/ewald_phases.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace equicalc {

Slots make_slots(const WidthGroups &groups) {
    Slots slots;
    for (std::size_t g = 0; g < groups.size(); ++g) {
        slots.start.push_back(slots.atom.size());
        slots.atom.insert(slots.atom.end(), groups.order.begin() + groups.start[g],
                          groups.order.begin() + groups.start[g + 1]);
        while (slots.atom.size() % kLanes != 0) {
            slots.atom.push_back(Slots::kEmpty);
        }
    }
    slots.start.push_back(slots.atom.size());
    return slots;
}

void PhaseTable::fill(const std::vector<double> &fractional, int extent, int threads) {
    stride = fractional.size();
    re.resize(stride * (extent + 1));
    im.resize(stride * (extent + 1));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int h = 0; h <= extent; ++h) {
        for (std::size_t i = 0; i < stride; ++i) {
            // Whole turns are taken off before the product with 2 pi: full precision far out.
            const double turns = h * fractional[i];
            const double angle = 2.0 * kPi * (turns - std::nearbyint(turns));
            re[h * stride + i] = std::cos(angle);
            im[h * stride + i] = std::sin(angle);
        }
    }
}

std::array<PhaseTable, 3> phase_tables(const Slots &slots, const double *positions,
                                       const Lattice &lattice, int threads) {
    std::array<PhaseTable, 3> tables;
    std::vector<double> fractional(slots.atom.size());
    for (int a = 0; a < 3; ++a) {
        for (std::size_t at = 0; at < slots.atom.size(); ++at) {
            fractional[at] = 0.0;
            for (int x = 0; x < 3 && slots.atom[at] != Slots::kEmpty; ++x) {
                fractional[at] +=
                    positions[3 * slots.atom[at] + x] * lattice.reciprocal.inverse[x][a];
            }
        }
        tables[a].fill(fractional, lattice.extent[a], threads);
    }
    return tables;
}

Lattice make_lattice(const double *cell, double k_max) {
    Lattice lattice;
    double length[3];
    int axis[3] = {0, 1, 2};
    for (int a = 0; a < 3; ++a) {
        length[a] = std::hypot(cell[3 * a], cell[3 * a + 1], cell[3 * a + 2]);
    }
    std::stable_sort(axis, axis + 3, [&](int a, int b) { return length[a] < length[b]; });
    double sorted[9];
    for (int a = 0; a < 3; ++a) {
        std::copy(cell + 3 * axis[a], cell + 3 * axis[a] + 3, sorted + 3 * a);
        lattice.extent[a] = static_cast<int>(std::floor(k_max * length[axis[a]] / (2.0 * kPi)));
    }
    lattice.reciprocal = make_reciprocal(sorted);
    return lattice;
}

namespace {

void wave_vector(const Lattice &lattice, int h1, int h2, int h3, double *k) {
    for (int x = 0; x < 3; ++x) {
        k[x] = 2.0 * kPi *
               (h1 * lattice.reciprocal.inverse[x][0] + h2 * lattice.reciprocal.inverse[x][1] +
                h3 * lattice.reciprocal.inverse[x][2]);
    }
}

}  // namespace

Waves make_waves(const Lattice &lattice, const CoulombOptions &options) {
    Waves waves;
    std::size_t n_waves = 0;
    const double k_max = options.k_outer;
    for (int h1 = 0; h1 <= lattice.extent[0]; ++h1) {
        for (int h2 = h1 == 0 ? 0 : -lattice.extent[1]; h2 <= lattice.extent[1]; ++h2) {
            int extent = -1;
            for (int h3 = lattice.extent[2]; h3 >= 0 && extent < 0; --h3) {
                for (int sign : {-1, 1}) {
                    double k[3];
                    wave_vector(lattice, h1, h2, sign * h3, k);
                    if (k[0] * k[0] + k[1] * k[1] + k[2] * k[2] < k_max * k_max) {
                        extent = h3;
                    }
                }
            }
            if (extent >= 0) {
                waves.lines.push_back({h1, h2, extent, n_waves + extent});
                n_waves += 2 * extent + 1;
            }
        }
    }
    waves.k.resize(3 * n_waves);
    waves.k_sq.resize(n_waves);
    waves.weights.resize(n_waves);
    for (const Line &line : waves.lines) {
        for (int h3 = -line.extent; h3 <= line.extent; ++h3) {
            const std::size_t at = line.offset + h3;
            double *k = &waves.k[3 * at];
            wave_vector(lattice, line.h1, line.h2, h3, k);
            waves.k_sq[at] = k[0] * k[0] + k[1] * k[1] + k[2] * k[2];
            waves.weights[at] = wave_weight(waves.k_sq[at], options);
        }
    }
    return waves;
}

}  // namespace equicalc
