// Learned radial functions B(r) = u(r / r_c) W2 silu(W1 j(r) + b1) + b2 with their slopes, where
// j_k(r) = prefactor sin(k pi r / r_c) / r and u is the polynomial cutoff of equicalc/nn/radial.py.
// Vectors hold one number of several edges. Loops over edges [begin, end) are for one thread.
#pragma once

#include <cstdint>

namespace equicalc::kernels {

template <typename T>
struct RadialFunctions {
    int64_t n_bessel, n_hidden, n_radial;
    double prefactor, cutoff;
    const T *w1, *b1, *w2,
        *b2;            // [n_hidden, n_bessel], [n_hidden], [n_radial, n_hidden], [n_radial]
    const T *distance;  // [E]

    // Of all weights together, in the order above.
    int64_t n_weights() const { return n_hidden * (n_bessel + 1) + n_radial * (n_hidden + 1); }
};

#define EQUICALC_DECLARE(T)                                                                  \
    /* values and slopes dB/dr, both [E, n_radial] */                                        \
    void radial_functions(const RadialFunctions<T> &, int64_t begin, int64_t end, T *values, \
                          T *slopes);                                                        \
    /* gradients by all weights, summed over the edges; from dL/dvalues and dL/dslopes */    \
    void radial_weights(const RadialFunctions<T> &, int64_t begin, int64_t end,              \
                        const T *grad_values, const T *grad_slopes, T *grad_weights);

EQUICALC_DECLARE(float)
EQUICALC_DECLARE(double)

#undef EQUICALC_DECLARE

}  // namespace equicalc::kernels
