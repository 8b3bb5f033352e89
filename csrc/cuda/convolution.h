// equicalc::outer_sum and equicalc::scalar_convolution for groups of lanes; what they compute is in
// convolution_kernels.h.
#pragma once

#include "operators/convolution_kernels.h"
#include "cuda/lanes.h"
#include "cuda/shapes.h"

namespace equicalc::groups {

// Edges sorted by receiver, and who is at their ends.
struct Edges {
    const int64_t *start, *receivers, *senders;  // [n_receivers + 1], [E], [E]
};

// Of a receiver: sums[i, m, k]. L: degrees, M = L^2 components.
template <typename T, int L>
struct OuterSumValues {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::OuterSum<T> p;
    const int64_t *start;
    T *sums;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t i, const Group &group) const {
        const int64_t first = start[i], last = start[i + 1];
        for (int64_t k = group.index(); k < p.width; k += Group::kWidth) {
            T sum[M] = {};
            for (int64_t e = first; e < last; ++e) {
                const T weight = p.weights[e * p.width + k];
                EQUICALC_UNROLL
                for (int m = 0; m < M; ++m) {
                    sum[m] += p.harmonics[e * M + m] * weight;
                }
            }
            EQUICALC_UNROLL
            for (int m = 0; m < M; ++m) {
                sums[(i * M + m) * p.width + k] = sum[m];
            }
        }
    }
};

// Of an edge: dL/dharmonics and dL/dweights.
template <typename T, int L>
struct OuterSumEdges {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::OuterSum<T> p;
    const int64_t *receivers;
    const T *grad_sums;
    T *grad_harmonics, *grad_weights;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &group) const {
        const T *grad = grad_sums + receivers[e] * M * p.width;
        T dy[M] = {};
        for (int64_t k = group.index(); k < p.width; k += Group::kWidth) {
            const T weight = p.weights[e * p.width + k];
            T dw = 0;
            EQUICALC_UNROLL
            for (int m = 0; m < M; ++m) {
                const T g = grad[m * p.width + k];
                dw += p.harmonics[e * M + m] * g;
                dy[m] += weight * g;
            }
            grad_weights[e * p.width + k] = dw;
        }
        store_sums<M>(group, dy, M, grad_harmonics + e * M);
    }
};

// The weights W[b, l, c] of one channel that make radial weights R[l] of radial functions.
template <typename T, int L, int B>
struct ChannelMix {
    T of[L * B];

    EQUICALC_BOTH ChannelMix(const kernels::ScalarConvolution<T> &p, int64_t c) {
        EQUICALC_UNROLL_RADIAL
        for (int b = 0; b < B; ++b) {
            EQUICALC_UNROLL
            for (int l = 0; l < L; ++l) {
                of[b * L + l] = b < p.n_radial ? p.mix[(b * L + l) * p.n_channels + c] : T(0);
            }
        }
    }

    EQUICALC_BOTH void radial_weights(const T *radial, int64_t n_radial, T *out) const {
        EQUICALC_UNROLL
        for (int l = 0; l < L; ++l) {
            out[l] = 0;
        }
        EQUICALC_UNROLL_RADIAL
        for (int b = 0; b < B; ++b) {
            const T value = b < n_radial ? radial[b] : T(0);
            EQUICALC_UNROLL
            for (int l = 0; l < L; ++l) {
                out[l] += value * of[b * L + l];
            }
        }
    }
};

// Of a receiver: messages[i, l, c].
template <typename T, int L, int B>
struct ScalarValues {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::ScalarConvolution<T> p;
    Edges edges;
    T *messages;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t i, const Group &group) const {
        const int64_t first = edges.start[i], last = edges.start[i + 1];
        for (int64_t c = group.index(); c < p.n_channels; c += Group::kWidth) {
            const ChannelMix<T, L, B> mix(p, c);
            T sum[L] = {}, weight[L];
            for (int64_t e = first; e < last; ++e) {
                const T *x = p.x + edges.senders[e] * M * p.n_channels + c;
                mix.radial_weights(p.radial + e * p.n_radial, p.n_radial, weight);
                EQUICALC_UNROLL
                for (int l = 0; l < L; ++l) {
                    T value = 0;
                    EQUICALC_UNROLL
                    for (int m = l * l; m < (l + 1) * (l + 1); ++m) {
                        value += p.harmonics[e * M + m] * x[m * p.n_channels];
                    }
                    sum[l] += weight[l] * value;
                }
            }
            EQUICALC_UNROLL
            for (int l = 0; l < L; ++l) {
                messages[(i * L + l) * p.n_channels + c] = norm_of<T>(l) * sum[l];
            }
        }
    }
};

// Of an edge: dL/dradial and dL/dharmonics.
template <typename T, int L, int B>
struct ScalarEdges {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::ScalarConvolution<T> p;
    Edges edges;
    const T *grad;
    T *grad_radial, *grad_harmonics;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &group) const {
        const T *radial = p.radial + e * p.n_radial, *harmonics = p.harmonics + e * M;
        T dy[M] = {}, db[B] = {}, weight[L];
        for (int64_t c = group.index(); c < p.n_channels; c += Group::kWidth) {
            const ChannelMix<T, L, B> mix(p, c);
            const T *x = p.x + edges.senders[e] * M * p.n_channels + c;
            const T *g_row = grad + edges.receivers[e] * L * p.n_channels + c;
            mix.radial_weights(radial, p.n_radial, weight);
            EQUICALC_UNROLL
            for (int l = 0; l < L; ++l) {
                const T g = norm_of<T>(l) * g_row[l * p.n_channels];
                T value = 0;
                EQUICALC_UNROLL
                for (int m = l * l; m < (l + 1) * (l + 1); ++m) {
                    const T xm = x[m * p.n_channels];
                    value += harmonics[m] * xm;
                    dy[m] += g * weight[l] * xm;
                }
                EQUICALC_UNROLL_RADIAL
                for (int b = 0; b < B; ++b) {
                    db[b] += g * value * mix.of[b * L + l];
                }
            }
        }
        store_sums<M>(group, dy, M, grad_harmonics + e * M);
        store_sums<B>(group, db, p.n_radial, grad_radial + e * p.n_radial);
    }
};

// Of a sender: dL/dx[j, m, c].
template <typename T, int L, int B>
struct ScalarSenders {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::ScalarConvolution<T> p;
    kernels::SenderRows rows;
    const T *grad;
    T *grad_x;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t j, const Group &group) const {
        const int64_t first = rows.start[j], last = rows.start[j + 1];
        for (int64_t c = group.index(); c < p.n_channels; c += Group::kWidth) {
            const ChannelMix<T, L, B> mix(p, c);
            T sum[M] = {}, weight[L];
            for (int64_t k = first; k < last; ++k) {
                const int64_t e = rows.edges[k];
                const T *g = grad + rows.receivers[e] * L * p.n_channels + c;
                mix.radial_weights(p.radial + e * p.n_radial, p.n_radial, weight);
                EQUICALC_UNROLL
                for (int l = 0; l < L; ++l) {
                    const T value = norm_of<T>(l) * weight[l] * g[l * p.n_channels];
                    EQUICALC_UNROLL
                    for (int m = l * l; m < (l + 1) * (l + 1); ++m) {
                        sum[m] += p.harmonics[e * M + m] * value;
                    }
                }
            }
            EQUICALC_UNROLL
            for (int m = 0; m < M; ++m) {
                grad_x[(j * M + m) * p.n_channels + c] = sum[m];
            }
        }
    }
};

template <typename Registry>
void add_outer_sums() {
    for_degrees([]<typename T, int L>(Degrees<T, L>) {
        Registry::template add<OuterSumValues<T, L>>();
        Registry::template add<OuterSumEdges<T, L>>();
    });
}

template <typename Registry>
void add_scalar_convolutions() {
    for_shapes([]<typename T, int L, int B>(Shape<T, L, B>) {
        Registry::template add<ScalarValues<T, L, B>>();
        Registry::template add<ScalarEdges<T, L, B>>();
        Registry::template add<ScalarSenders<T, L, B>>();
    });
}

}  // namespace equicalc::groups
