// Vectors of edges from positions, and forces from their gradients, in float64.
#pragma once

#include "cuda/convolution.h"
#include "cuda/lanes.h"

namespace equicalc::groups {

// Writes the vector between two atoms, the second one in an image, and returns its square.
EQUICALC_BOTH double pair_vector(const double *from, const double *to, const int32_t *image,
                                 const double *cell, double *vector) {
    double square = 0;
    for (int x = 0; x < 3; ++x) {
        vector[x] = (to[x] - from[x]) +
                    (image[0] * cell[x] + image[1] * cell[3 + x] + image[2] * cell[6 + x]);
        square += vector[x] * vector[x];
    }
    return square;
}

// Of a pair: its vector, and whether it is shorter than the cutoff.
struct PairVectors {
    static constexpr bool kWarp = false;
    double cutoff;
    const double *positions, *cell;  // [n, 3], [3, 3]
    const int64_t *receivers, *senders;
    const int32_t *shifts;  // [M, 3]
    double *vectors;        // [M, 3]
    bool *is_edge;          // [M]

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &) const {
        const double square = pair_vector(positions + 3 * receivers[e], positions + 3 * senders[e],
                                          shifts + 3 * e, cell, vectors + 3 * e);
        is_edge[e] = square < cutoff * cutoff;
    }
};

// Of an atom: its force, and the virial of the edges that it receives; it owns both.
template <typename T>
struct AtomForces {
    static constexpr bool kWarp = true;
    int64_t n_local;
    const int64_t *start;         // [n_local + 1], edges of receivers
    const int64_t *sender_start;  // [n_total + 1]
    const int64_t *sender_edges;  // [E]
    const double *vectors;
    const T *gradients;
    double *forces, *virials;  // [n_total, 3], [n_local, 3, 3]

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t atom, const Group &group) const {
        double force[3] = {}, virial[9] = {};
        for (int64_t n = sender_start[atom] + group.index(); n < sender_start[atom + 1];
             n += Group::kWidth) {
            EQUICALC_UNROLL
            for (int x = 0; x < 3; ++x) {
                force[x] -= static_cast<double>(gradients[3 * sender_edges[n] + x]);
            }
        }
        if (atom < n_local) {
            for (int64_t e = start[atom] + group.index(); e < start[atom + 1]; e += Group::kWidth) {
                add_edge(e, force, virial);
            }
            store_sums<9>(group, virial, 9, virials + 9 * atom);
        }
        store_sums<3>(group, force, 3, forces + 3 * atom);
    }

    EQUICALC_BOTH void add_edge(int64_t e, double *force, double *virial) const {
        EQUICALC_UNROLL
        for (int x = 0; x < 3; ++x) {
            force[x] += static_cast<double>(gradients[3 * e + x]);
            EQUICALC_UNROLL
            for (int y = 0; y < 3; ++y) {
                virial[3 * x + y] -= vectors[3 * e + x] * static_cast<double>(gradients[3 * e + y]);
            }
        }
    }
};

template <typename Registry>
void add_edges() {
    Registry::template add<PairVectors>();
    Registry::template add<AtomForces<float>>();
    Registry::template add<AtomForces<double>>();
}

}  // namespace equicalc::groups
