// The convolution that couples features of senders fully with the harmonics of edges,
//   out[i, m3, c] = sum over edges e of i and rows (p, m3):
//       R[e, p, c] sum over entries of the row: D[e, entry] x[sender, m2, c],
//   R[e, p, c] = sum_b B[e, b] W[b, p, c],  D[e, entry] = sum over terms: coefficient Y[e, m1].
// It is linear in x, B, Y and W each, so second derivatives are sums of first ones with one factor
// replaced. D is computed once for an edge, and then serves all channels. Loops are for one thread.
#pragma once

#include <cstdint>

#include "operators/convolution_kernels.h"

namespace equicalc::kernels {

inline constexpr int kMaxPaths = 64;

// What couples with what: constants of a network, see equicalc/nn/convolution.py.
template <typename T>
struct CouplingTables {
    int64_t n_components, n_paths, n_rows, n_entries;
    const int64_t *row_start, *row_path, *row_out;  // [n_rows + 1], [n_rows], [n_rows]; m3
    const int64_t *entry_start, *entry_in;          // [n_entries + 1], [n_entries]; m2
    const int64_t *term_harmonic;                   // [terms]; m1
    const T *coefficient;                           // [terms]
};

template <typename T>
struct EquivariantConvolution {
    CouplingTables<T> tables;
    int64_t n_channels, n_radial;
    const T *x, *radial, *harmonics, *weight;  // [n, M, C], [E, B], [E, M], [B, P, C]
};

#define EQUICALC_DECLARE(T)                                                                        \
    void equivariant(const EquivariantConvolution<T> &, const EdgeRows &, int64_t begin,           \
                     int64_t end, T *out);                                                         \
    /* dL/dB, or dL/dY, of edges from grad = dL/dout; either may be null */                        \
    void equivariant_edges(const EquivariantConvolution<T> &, const EdgeRows &, int64_t begin,     \
                           int64_t end, const T *grad, T *grad_radial, T *grad_harmonics);         \
    /* dL/dx of senders [begin, end) */                                                            \
    void equivariant_senders(const EquivariantConvolution<T> &, const SenderRows &, int64_t begin, \
                             int64_t end, const T *grad, T *grad_x);                               \
    /* dL/dW, added up over the edges of receivers [begin, end) */                                 \
    void equivariant_weights(const EquivariantConvolution<T> &, const EdgeRows &, int64_t begin,   \
                             int64_t end, const T *grad, T *grad_weight);

EQUICALC_DECLARE(float)
EQUICALC_DECLARE(double)

#undef EQUICALC_DECLARE

}  // namespace equicalc::kernels
