// Radial moments: what a convolution with scalar output sums over edges before its weights act,
//   A[i, b, l, c] = sum over edges e of i: B[e, b] P[e, l, c],
//   P[e, l, c] = (2 l + 1)^(-1/2) sum over m of Y[e, lm] x[sender, lm, c].
// A is linear in x, B and Y each, so all derivatives are sums of the same kind. Weights act on
// nodes afterwards, which keeps their gradients away from the edges. Loops are for one thread.
#pragma once

#include <cstdint>

#include "operators/convolution_kernels.h"

namespace equicalc::kernels {

template <typename T>
struct MomentInputs {
    const T *x, *radial, *harmonics;  // [n_senders, M, C], [E, n_radial], [E, M]
};

// With tangents the functions below give the derivative along them of what they give without,
// that is sums of terms in each of which one factor is replaced by its tangent.
template <typename T>
struct Moments {
    int64_t l_max, n_channels, n_radial;
    MomentInputs<T> at, along;
    bool has_tangents;
};

#define EQUICALC_DECLARE(T)                                                                      \
    /* A of receivers [begin, end), [n_receivers, n_radial, L, C] */                             \
    void moments(const Moments<T> &, const EdgeRows &, int64_t begin, int64_t end, T *out);      \
    /* dL/dB and dL/dY from grad = dL/dA, for the edges of receivers; grad_harmonics may be null \
     */                                                                                          \
    void moments_edges(const Moments<T> &, const EdgeRows &, int64_t begin, int64_t end,         \
                       const T *grad, T *grad_radial, T *grad_harmonics);                        \
    /* dL/dx of senders [begin, end) */                                                          \
    void moments_senders(const Moments<T> &, const SenderRows &, int64_t begin, int64_t end,     \
                         const T *grad, T *grad_x);

EQUICALC_DECLARE(float)
EQUICALC_DECLARE(double)

#undef EQUICALC_DECLARE

}  // namespace equicalc::kernels
