// Radial weights of a few edges at a time, for convolutions. Included by the files that compile the
// kernels, one for each kind of processor.
#pragma once

#include "direct/node_loops.h"

namespace equicalc::direct::EQUICALC_ISA {

// Radial weights (and, with Slopes, their derivatives in the rows after them) of a chunk of edges.
template <typename T, bool Slopes>
EQUICALC_INLINE void radial_weights(const EdgeLayout &layout, const Matrix<T> &weights,
                                    const T *records, int64_t count, T *out) {
    constexpr int kMany = Slopes ? 2 : 1;
    const T *from[kMany * kEdgeChunk];
    T *to[kMany * kEdgeChunk];
    for (int64_t e = 0; e < count; ++e) {
        const T *record = records + e * layout.width();
        from[kMany * e] = record + layout.radial();
        to[kMany * e] = out + kMany * e * weights.n;
        if constexpr (Slopes) {
            from[2 * e + 1] = record + layout.slopes();
            to[2 * e + 1] = to[2 * e] + weights.n;
        }
    }
    multiply<T>(weights, from, to, kMany * count, false);
}

}  // namespace equicalc::direct::EQUICALC_ISA
