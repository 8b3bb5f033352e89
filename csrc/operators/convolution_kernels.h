// Sums over edges without messages in memory: one pass over the edges of each receiver forward,
// the same pass backward with everything recomputed, and a pass over the edges of each sender for
// the gradient of its features. Every sum has one owner: no atomics, the same bits for any number
// of threads. Loops over atoms [begin, end) are for one thread.
#pragma once

#include <cstdint>

namespace equicalc::kernels {

inline constexpr int kMaxDegree = 3;
inline constexpr int kMaxComponents = (kMaxDegree + 1) * (kMaxDegree + 1);
inline constexpr int kMaxRadial = 32;

// Edges sorted by receiver. Rows of the arrays below are edges.
struct EdgeRows {
    const int64_t *start;    // [n_receivers + 1], first edge of each receiver
    const int64_t *senders;  // [E]
};

// Edges by sender: positions in the list above.
struct SenderRows {
    const int64_t *start;      // [n_senders + 1]
    const int64_t *edges;      // [E]
    const int64_t *receivers;  // [E], by edge
};

// sums[i, m, k] = sum over edges e of i: harmonics[e, m] weights[e, k]
template <typename T>
struct OuterSum {
    int64_t n_components, width;
    const T *harmonics, *weights;
};

void outer_sum(const OuterSum<float> &, const EdgeRows &, int64_t begin, int64_t end, float *sums);
void outer_sum(const OuterSum<double> &, const EdgeRows &, int64_t begin, int64_t end,
               double *sums);
void outer_sum_backward(const OuterSum<float> &, const EdgeRows &, int64_t begin, int64_t end,
                        const float *grad_sums, float *grad_harmonics, float *grad_weights);
void outer_sum_backward(const OuterSum<double> &, const EdgeRows &, int64_t begin, int64_t end,
                        const double *grad_sums, double *grad_harmonics, double *grad_weights);

// messages[i, l, c] = sum over edges e of i: R[e, l, c] / sqrt(2 l + 1) *
//     sum over m of harmonics[e, lm] x[sender, lm, c],   R[e, l, c] = sum_b radial[e, b] mix[b, l,
//     c]
template <typename T>
struct ScalarConvolution {
    int64_t l_max, n_channels, n_radial;
    const T *x, *radial, *harmonics, *mix;
};

void scalar_convolution(const ScalarConvolution<float> &, const EdgeRows &, int64_t begin,
                        int64_t end, float *messages);
void scalar_convolution(const ScalarConvolution<double> &, const EdgeRows &, int64_t begin,
                        int64_t end, double *messages);
void scalar_convolution_edges(const ScalarConvolution<float> &, const EdgeRows &, int64_t begin,
                              int64_t end, const float *grad, float *grad_radial,
                              float *grad_harmonics);
void scalar_convolution_edges(const ScalarConvolution<double> &, const EdgeRows &, int64_t begin,
                              int64_t end, const double *grad, double *grad_radial,
                              double *grad_harmonics);
void scalar_convolution_senders(const ScalarConvolution<float> &, const SenderRows &, int64_t begin,
                                int64_t end, const float *grad, float *grad_x);
void scalar_convolution_senders(const ScalarConvolution<double> &, const SenderRows &,
                                int64_t begin, int64_t end, const double *grad, double *grad_x);

}  // namespace equicalc::kernels
