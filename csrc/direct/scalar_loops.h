// The scalar convolution: sums over edges of scalars made of harmonics and features of senders.
// Included by the files that compile the kernels, one for each kind of processor.
#pragma once

#include "direct/radial_weights.h"

namespace equicalc::direct::EQUICALC_ISA {

// Features of the next sender are on their way while this edge is worked on.
template <typename T>
EQUICALC_INLINE void prefetch(const T *from, int64_t count) {
    for (int64_t k = 0; k < count; k += kBlock<T>) {
        __builtin_prefetch(from + k);
    }
}

// sum over m of Y_lm x_lm
template <typename T, int L, typename N>
EQUICALC_INLINE void project(const T *harmonics, const T *x, N channels, Block<T> *out) {
#pragma GCC unroll 16
    for (int degree = 0; degree < L; ++degree) {
        out[degree] = Block<T>::zero();
#pragma GCC unroll 16
        for (int m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
            out[degree].add(harmonics[m], Block<T>::load(x + m * channels));
        }
    }
}

// Edges that share each load of the mixing of radial functions.
inline constexpr int kTogether = 4;

// With eight radial functions weights are made in registers, of N edges of one receiver at a time,
// and nothing but sums is stored.
template <typename T, int L, int N, typename C>
EQUICALC_INLINE void scalar_edges(const ScalarConvolution<T> &p, C channels, const T *records,
                                  const T *x, const int64_t *offset, T *message) {
    const int64_t width = p.layout.width();
    for (int64_t c = 0; c < channels; c += kBlock<T>) {
#pragma GCC unroll 16
        for (int degree = 0; degree < L; ++degree) {
            const int64_t at = degree * channels + c;
            const T *mix = p.weights.panels + at * kRadialBlock;
            const T *radial = records + EdgeLayout::radial_after(L * L);
            Block<T> weight[N];
#pragma GCC unroll 16
            for (int e = 0; e < N; ++e) {
                weight[e] = Block<T>::zero();
            }
#pragma GCC unroll 16
            for (int b = 0; b < kRadialBlock; ++b) {
                const auto w = Block<T>::load(mix + b * kBlock<T>);
#pragma GCC unroll 16
                for (int e = 0; e < N; ++e) {
                    weight[e].add(radial[e * width + b], w);
                }
            }
            auto total = Block<T>::load(message + at);
#pragma GCC unroll 16
            for (int e = 0; e < N; ++e) {
                const T *harmonics = records + e * width, *from = x + offset[e] + c;
                auto value = Block<T>::zero();
#pragma GCC unroll 16
                for (int m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
                    value.add(harmonics[m], Block<T>::load(from + m * channels));
                }
                total.add(value, weight[e]);
            }
            total.store(message + at);
        }
    }
}

// Gradients by distance, one register of sums for each edge, and factors g R [N, L, channels] for
// what follows.
template <typename T, int L, int N, typename C>
EQUICALC_INLINE void scalar_edges_factors(const ScalarConvolution<T> &p, C channels,
                                          const T *records, const T *x, const int64_t *offset,
                                          const T *by_messages, const int64_t *target, T *factors,
                                          Register<T> *by_distances) {
    typedef Register<T> R;
    const int64_t width = p.layout.width();
    R by_distance[N];  // in registers, which a place in memory would not be
#pragma GCC unroll 16
    for (int e = 0; e < N; ++e) {
        by_distance[e] = R::zero();
    }
    for (int64_t c = 0; c < channels; c += kBlock<T>) {
#pragma GCC unroll 16
        for (int degree = 0; degree < L; ++degree) {
            const int64_t at = degree * channels + c;
            const T *mix = p.weights.panels + at * kRadialBlock;
            const T *radial = records + EdgeLayout::radial_after(L * L);
            const T *slopes = radial + kRadialBlock;
            Block<T> weight[N], slope[N];
#pragma GCC unroll 16
            for (int e = 0; e < N; ++e) {
                weight[e] = slope[e] = Block<T>::zero();
            }
#pragma GCC unroll 16
            for (int b = 0; b < kRadialBlock; ++b) {
                const auto w = Block<T>::load(mix + b * kBlock<T>);
#pragma GCC unroll 16
                for (int e = 0; e < N; ++e) {
                    weight[e].add(radial[e * width + b], w);
                    slope[e].add(slopes[e * width + b], w);
                }
            }
#pragma GCC unroll 16
            for (int e = 0; e < N; ++e) {
                const T *harmonics = records + e * width, *from = x + offset[e] + c;
                auto value = Block<T>::zero();
#pragma GCC unroll 16
                for (int m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
                    value.add(harmonics[m], Block<T>::load(from + m * channels));
                }
                const auto g = Block<T>::load(by_messages + target[e] + at);
                const auto product = value * g;
#pragma GCC unroll 16
                for (int i = 0; i < Block<T>::kCount; ++i) {
                    by_distance[e].v[0] += product.v[i] * slope[e].v[i];
                }
                (g * weight[e]).store(factors + e * L * channels + at);
            }
        }
    }
#pragma GCC unroll 16
    for (int e = 0; e < N; ++e) {
        by_distances[e] = by_distance[e];
    }
}

// From factors to gradients by features and by harmonics; those by distance go with the latter.
template <typename T, int L, typename N>
EQUICALC_INLINE void scalar_edge_ends(N channels, const T *harmonics, const T *x, T *by_x,
                                      const T *factors, const Register<T> &by_distance,
                                      T *gradients) {
    typedef Register<T> R;
    R sums[L * L + 1];
#pragma GCC unroll 16
    for (int m = 0; m < L * L; ++m) {
        sums[m] = R::zero();
    }
    sums[L * L] = by_distance;
    for (int64_t c = 0; c < channels; c += kBlock<T>) {
#pragma GCC unroll 16
        for (int degree = 0; degree < L; ++degree) {
            const auto factor = Block<T>::load(factors + degree * channels + c);
#pragma GCC unroll 16
            for (int m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
                const int64_t at = m * channels + c;
                const auto feature = Block<T>::load(x + at);
#pragma GCC unroll 16
                for (int i = 0; i < Block<T>::kCount; ++i) {
                    sums[m].v[0] += factor.v[i] * feature.v[i];
                }
                auto total = Block<T>::load(by_x + at);
                total.add(harmonics[m], factor);
                total.store(by_x + at);
            }
        }
    }
    store_sums(sums, gradients);
}

// With more radial functions, weights of a few edges at a time are a matrix product.
template <typename T, int L, typename N>
EQUICALC_INLINE void scalar_edge_with(N channels, const T *record, const T *x, const T *weight,
                                      T *out) {
    for (int64_t c = 0; c < channels; c += kBlock<T>) {
        Block<T> value[L];
        project<T, L>(record, x + c, channels, value);
#pragma GCC unroll 16
        for (int degree = 0; degree < L; ++degree) {
            auto total = Block<T>::load(out + degree * channels + c);
            total.add(value[degree], Block<T>::load(weight + degree * channels + c));
            total.store(out + degree * channels + c);
        }
    }
}

template <typename T, int L, typename N>
EQUICALC_INLINE Register<T> scalar_edge_factors_with(N channels, const T *record, const T *x,
                                                     const T *grad, const T *weight, const T *slope,
                                                     T *factors) {
    Register<T> by_distance = Register<T>::zero();
    for (int64_t c = 0; c < channels; c += kBlock<T>) {
        Block<T> value[L];
        project<T, L>(record, x + c, channels, value);
#pragma GCC unroll 16
        for (int degree = 0; degree < L; ++degree) {
            const int64_t at = degree * channels + c;
            const auto g = Block<T>::load(grad + at), s = Block<T>::load(slope + at);
            const auto product = g * value[degree];
#pragma GCC unroll 16
            for (int i = 0; i < Block<T>::kCount; ++i) {
                by_distance.v[0] += product.v[i] * s.v[i];
            }
            (g * Block<T>::load(weight + at)).store(factors + at);
        }
    }
    return by_distance;
}

template <typename T, int L, typename C>
EQUICALC_INLINE void scalar_messages_of(const ScalarConvolution<T> &p, C channels, const T *records,
                                        int64_t count, const T *x, const int64_t *offset,
                                        T *messages, const int64_t *target, T *scratch) {
    const int64_t width = p.layout.width();
    int64_t e = 0;
    if (p.layout.n_radial == kRadialBlock) {
        while (e < count) {
            const T *record = records + e * width;
            T *to = messages + target[e];
            // receivers ascend
            if (e + kTogether <= count && target[e] == target[e + kTogether - 1]) {
                scalar_edges<T, L, kTogether>(p, channels, record, x, offset + e, to);
                e += kTogether;
            } else {
                scalar_edges<T, L, 1>(p, channels, record, x, offset + e, to);
                ++e;
            }
        }
        return;
    }
    for (; e < count; ++e) {
        const int64_t place = e % kEdgeChunk, left = count - e;
        const T *record = records + e * width;
        if (place == 0) {
            radial_weights<T, false>(p.layout, p.weights, record,
                                     left < kEdgeChunk ? left : kEdgeChunk, scratch);
        }
        scalar_edge_with<T, L>(channels, record, x + offset[e], scratch + place * p.weights.n,
                               messages + target[e]);
    }
}

template <typename T, int L, typename C>
EQUICALC_INLINE void scalar_messages_gradient_of(const ScalarConvolution<T> &p, C channels,
                                                 const T *records, int64_t count, const T *x,
                                                 T *by_x, const int64_t *offset,
                                                 const T *by_messages, const int64_t *target,
                                                 T *gradients, T *scratch) {
    constexpr int kPair = 2;
    const int64_t width = p.layout.width();
    T *factors = scratch + 2 * kEdgeChunk * p.weights.n;
    const auto fetch = [&](int64_t e) EQUICALC_LAMBDA {
        if (e < count) {
            prefetch(by_messages + target[e], L * channels);
        }
    };
    const auto ends = [&](int64_t e, const T *factor,
                          const Register<T> &by_distance) EQUICALC_LAMBDA {
        scalar_edge_ends<T, L>(channels, records + e * width, x + offset[e], by_x + offset[e],
                               factor, by_distance, gradients + e * p.layout.gradient_width());
    };
    Register<T> by_distance[kPair];
    int64_t e = 0;
    if (p.layout.n_radial == kRadialBlock) {
        for (; e + kPair <= count; e += kPair) {
            fetch(e + kPair);
            fetch(e + kPair + 1);
            scalar_edges_factors<T, L, kPair>(p, channels, records + e * width, x, offset + e,
                                              by_messages, target + e, factors, by_distance);
            ends(e, factors, by_distance[0]);
            ends(e + 1, factors + L * channels, by_distance[1]);
        }
        for (; e < count; ++e) {
            scalar_edges_factors<T, L, 1>(p, channels, records + e * width, x, offset + e,
                                          by_messages, target + e, factors, by_distance);
            ends(e, factors, by_distance[0]);
        }
        return;
    }
    for (; e < count; ++e) {
        fetch(e + 1);
        const int64_t place = e % kEdgeChunk, left = count - e;
        const T *record = records + e * width;
        if (place == 0) {
            radial_weights<T, true>(p.layout, p.weights, record,
                                    left < kEdgeChunk ? left : kEdgeChunk, scratch);
        }
        const T *weight = scratch + 2 * place * p.weights.n;
        ends(
            e, factors,
            scalar_edge_factors_with<T, L>(channels, record, x + offset[e], by_messages + target[e],
                                           weight, weight + p.weights.n, factors));
    }
}

// Calls body with the number of channels; the usual one is a constant, for addresses.
template <typename Body>
EQUICALC_INLINE void with_channels(int64_t channels, const Body &body) {
    if (channels == 64) {
        body(std::integral_constant<int64_t, 64>{});
    } else {
        body(channels);
    }
}

template <typename T>
void scalar_messages(const ScalarConvolution<T> &p, const T *records, int64_t count, const T *x,
                     const int64_t *offset, T *messages, const int64_t *target, T *scratch) {
    with_degrees(p.layout.l_max, [&](auto degrees) EQUICALC_LAMBDA {
        with_channels(p.channels, [&](auto channels) EQUICALC_LAMBDA {
            scalar_messages_of<T, degrees.value>(p, channels, records, count, x, offset, messages,
                                                 target, scratch);
        });
    });
}

template <typename T>
void scalar_messages_gradient(const ScalarConvolution<T> &p, const T *records, int64_t count,
                              const T *x, T *by_x, const int64_t *offset, const T *by_messages,
                              const int64_t *target, T *gradients, T *scratch) {
    with_degrees(p.layout.l_max, [&](auto degrees) EQUICALC_LAMBDA {
        with_channels(p.channels, [&](auto channels) EQUICALC_LAMBDA {
            scalar_messages_gradient_of<T, degrees.value>(p, channels, records, count, x, by_x,
                                                          offset, by_messages, target, gradients,
                                                          scratch);
        });
    });
}

}  // namespace equicalc::direct::EQUICALC_ISA
