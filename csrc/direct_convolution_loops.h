// Sums over edges of features of senders, and the table of all kernels. Included by the files that
// compile them, one for each kind of processor.
#pragma once

#include "direct_edge_loops.h"
#include "direct_kernels.h"
#include "direct_node_loops.h"
#include "lanes.h"

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

// Radial weights (and, with Slopes, their derivatives in the rows after them) of a chunk of edges.
template <typename T, bool Slopes>
EQUICALC_INLINE void radial_weights(const EdgeLayout &layout, const Matrix<T> &weights,
                                    const T *records, int64_t count, T *out) {
    constexpr int kMany = Slopes ? 2 : 1;
    const T *from[kMany * kEdgeChunk];
    T *to[kMany * kEdgeChunk];
    for (int64_t e = 0; e < count; ++e) {
        const T *record = records + e * layout.width();
        from[kMany * e] = record + EdgeLayout::kRadial;
        to[kMany * e] = out + kMany * e * weights.n;
        if constexpr (Slopes) {
            from[2 * e + 1] = record + layout.slopes();
            to[2 * e + 1] = to[2 * e] + weights.n;
        }
    }
    multiply<T>(weights, from, to, kMany * count, false);
}

// With eight radial functions weights are made in registers and nothing but sums is stored.
template <typename T, int L, typename N>
EQUICALC_INLINE void scalar_edge(const ScalarConvolution<T> &p, N channels, const T *record,
                                 const T *x, T *out) {
    const T *radial = record + EdgeLayout::kRadial;
    for (int64_t c = 0; c < channels; c += kBlock<T>) {
        Block<T> value[L];
        project<T, L>(record, x + c, channels, value);
#pragma GCC unroll 16
        for (int degree = 0; degree < L; ++degree) {
            const int64_t at = degree * channels + c;
            const T *mix = p.weights.panels + at * kRadialBlock;
            Block<T> weight = Block<T>::zero();
#pragma GCC unroll 16
            for (int b = 0; b < kRadialBlock; ++b) {
                weight.add(radial[b], Block<T>::load(mix + b * kBlock<T>));
            }
            auto total = Block<T>::load(out + at);
            total.add(value[degree], weight);
            total.store(out + at);
        }
    }
}

// Gradients by radial functions, and factors g R [L, channels] for what follows.
template <typename T, int L, typename N>
EQUICALC_INLINE T scalar_edge_factors(const ScalarConvolution<T> &p, N channels, const T *record,
                                      const T *x, const T *grad, T *factors) {
    typedef Register<T> R;
    const T *radial = record + EdgeLayout::kRadial, *slope = record + p.layout.slopes();
    R by_radial[kRadialBlock];
#pragma GCC unroll 16
    for (int b = 0; b < kRadialBlock; ++b) {
        by_radial[b] = R::zero();
    }
    for (int64_t c = 0; c < channels; c += kBlock<T>) {
#pragma GCC unroll 16
        for (int degree = 0; degree < L; ++degree) {
            const int64_t at = degree * channels + c;
            auto value = Block<T>::zero(), weight = Block<T>::zero();
#pragma GCC unroll 16
            for (int m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
                value.add(record[m], Block<T>::load(x + m * channels + c));
            }
            const auto g = Block<T>::load(grad + at);
            value = value * g;
            const T *mix = p.weights.panels + at * kRadialBlock;
#pragma GCC unroll 16
            for (int b = 0; b < kRadialBlock; ++b) {
                const auto w = Block<T>::load(mix + b * kBlock<T>);
                weight.add(radial[b], w);
#pragma GCC unroll 16
                for (int i = 0; i < Block<T>::kCount; ++i) {
                    by_radial[b].v[0] += value.v[i] * w.v[i];
                }
            }
            (g * weight).store(factors + at);
        }
    }
    R by_distance = R::zero();
#pragma GCC unroll 16
    for (int b = 0; b < kRadialBlock; ++b) {
        by_distance.add(slope[b], by_radial[b]);
    }
    return sum<T, R::kLanes>(by_distance);
}

// From factors to gradients by harmonics and features.
template <typename T, int L, typename N>
EQUICALC_INLINE void scalar_edge_ends(N channels, const T *harmonics, const T *x, T *by_x,
                                      const T *factors, T *by_harmonics) {
    typedef Register<T> R;
    R sums[L * L];
#pragma GCC unroll 16
    for (int m = 0; m < L * L; ++m) {
        sums[m] = R::zero();
    }
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
#pragma GCC unroll 16
    for (int m = 0; m < L * L; ++m) {
        by_harmonics[m] = sum<T, R::kLanes>(sums[m]);
    }
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
EQUICALC_INLINE T scalar_edge_factors_with(N channels, const T *record, const T *x, const T *grad,
                                           const T *weight, const T *slope, T *factors) {
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
    return sum<T, Register<T>::kLanes>(by_distance);
}

template <typename T, int L, typename N>
EQUICALC_INLINE void scalar_messages_of(const ScalarConvolution<T> &p, N channels, const T *records,
                                        int64_t count, const T *x, const int64_t *offset,
                                        T *messages, const int64_t *target, T *scratch) {
    const bool in_registers = p.layout.n_radial == kRadialBlock;
    for (int64_t e = 0; e < count; ++e) {
        const T *record = records + e * p.layout.width();
        if (e + 1 < count) {
            prefetch(x + offset[e + 1], L * L * channels);
        }
        if (in_registers) {
            scalar_edge<T, L>(p, channels, record, x + offset[e], messages + target[e]);
            continue;
        }
        const int64_t place = e % kEdgeChunk, left = count - e;
        if (place == 0) {
            radial_weights<T, false>(p.layout, p.weights, record,
                                     left < kEdgeChunk ? left : kEdgeChunk, scratch);
        }
        scalar_edge_with<T, L>(channels, record, x + offset[e], scratch + place * p.weights.n,
                               messages + target[e]);
    }
}

template <typename T, int L, typename N>
EQUICALC_INLINE void scalar_messages_gradient_of(const ScalarConvolution<T> &p, N channels,
                                                 const T *records, int64_t count, const T *x,
                                                 T *by_x, const int64_t *offset,
                                                 const T *by_messages, const int64_t *target,
                                                 T *gradients, T *scratch) {
    const bool in_registers = p.layout.n_radial == kRadialBlock;
    T *factors = scratch + 2 * kEdgeChunk * p.weights.n;
    for (int64_t e = 0; e < count; ++e) {
        const T *record = records + e * p.layout.width(), *from = x + offset[e];
        const T *grad = by_messages + target[e];
        T *out = gradients + e * EdgeLayout::kGradientWidth;
        if (e + 1 < count) {
            prefetch(by_messages + target[e + 1], L * channels);
        }
        if (in_registers) {
            out[EdgeLayout::kByDistance] =
                scalar_edge_factors<T, L>(p, channels, record, from, grad, factors);
        } else {
            const int64_t place = e % kEdgeChunk, left = count - e;
            if (place == 0) {
                radial_weights<T, true>(p.layout, p.weights, record,
                                        left < kEdgeChunk ? left : kEdgeChunk, scratch);
            }
            const T *weight = scratch + 2 * place * p.weights.n;
            out[EdgeLayout::kByDistance] = scalar_edge_factors_with<T, L>(
                channels, record, from, grad, weight, weight + p.weights.n, factors);
        }
        scalar_edge_ends<T, L>(channels, record, from, by_x + offset[e], factors, out);
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

// Calls body with l_max + 1 as a constant.
template <typename Body>
EQUICALC_INLINE void with_degrees(int64_t l_max, const Body &body) {
    switch (l_max) {
        case 0:
            return body(std::integral_constant<int, 1>{});
        case 1:
            return body(std::integral_constant<int, 2>{});
        case 2:
            return body(std::integral_constant<int, 3>{});
        default:
            return body(std::integral_constant<int, 4>{});
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

// N blocks of channels of one edge.
template <typename T, int N>
EQUICALC_INLINE void row_sums(const FullConvolution<T> &p, int64_t row, const T *entries,
                              const T *x, Block<T> *sums) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
        sums[n] = Block<T>::zero();
    }
    for (int32_t k = p.row_start[row]; k < p.row_start[row + 1]; ++k) {
        const T entry = entries[k];
        const T *feature = x + p.entry_in[k] * p.channels;
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            sums[n].add(entry, Block<T>::load(feature + n * kBlock<T>));
        }
    }
}

template <typename T, int N>
EQUICALC_INLINE void full_edge(const FullConvolution<T> &p, const T *entries, const T *x,
                               const T *weight, T *out) {
    for (int64_t row = 0; row < p.n_rows; ++row) {
        Block<T> sums[N];
        row_sums<T, N>(p, row, entries, x, sums);
        T *to = out + p.row_out[row] * p.channels;
        const T *w = weight + p.row_path[row] * p.channels;
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            auto total = Block<T>::load(to + n * kBlock<T>);
            total.add(sums[n], Block<T>::load(w + n * kBlock<T>));
            total.store(to + n * kBlock<T>);
        }
    }
}

// Adds to by_x and by_entries; returns the part of dE/dr.
template <typename T, int N>
EQUICALC_INLINE T full_edge_gradient(const FullConvolution<T> &p, const T *entries, const T *x,
                                     T *by_x, const T *grad, const T *weight, const T *slope,
                                     T *weighted, T *by_entries) {
    Register<T> by_distance = Register<T>::zero();
    for (int64_t row = 0; row < p.n_rows; ++row) {
        Block<T> factors[N];
        row_sums<T, N>(p, row, entries, x, factors);
        const T *g = grad + p.row_out[row] * p.channels;
        const int64_t path = p.row_path[row] * p.channels;
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            const auto by_out = Block<T>::load(g + n * kBlock<T>);
            const auto product = by_out * factors[n];
            const auto s = Block<T>::load(slope + path + n * kBlock<T>);
#pragma GCC unroll 16
            for (int i = 0; i < Block<T>::kCount; ++i) {
                by_distance.v[0] += product.v[i] * s.v[i];
            }
            factors[n] = by_out * Block<T>::load(weight + path + n * kBlock<T>);
            factors[n].store(weighted + row * p.channels + n * kBlock<T>);
        }
        for (int32_t k = p.row_start[row]; k < p.row_start[row + 1]; ++k) {
            const T *feature = x + p.entry_in[k] * p.channels;
            Register<T> total[2] = {Register<T>::zero(), Register<T>::zero()};
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) {
                const auto value = Block<T>::load(feature + n * kBlock<T>);
#pragma GCC unroll 16
                for (int i = 0; i < Block<T>::kCount; ++i) {
                    total[n % 2].v[0] += factors[n].v[i] * value.v[i];
                }
            }
            total[0].v[0] += total[1].v[0];
            by_entries[k] += sum<T, Register<T>::kLanes>(total[0]);
        }
    }
    for (int64_t m = 0; m < (p.layout.l_max + 1) * (p.layout.l_max + 1); ++m) {
        Block<T> sums[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            sums[n] = Block<T>::load(by_x + m * p.channels + n * kBlock<T>);
        }
        for (int32_t k = p.in_start[m]; k < p.in_start[m + 1]; ++k) {
            const int32_t entry = p.in_entry[k];
            const T *row = weighted + p.entry_row[entry] * p.channels;
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) {
                sums[n].add(entries[entry], Block<T>::load(row + n * kBlock<T>));
            }
        }
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            sums[n].store(by_x + m * p.channels + n * kBlock<T>);
        }
    }
    return sum<T, Register<T>::kLanes>(by_distance);
}

template <typename T>
EQUICALC_INLINE void contract_harmonics(const FullConvolution<T> &p, const T *harmonics,
                                        T *entries) {
    for (int64_t k = 0; k < p.n_entries; ++k) {
        T value = T(0);
        for (int32_t t = p.entry_start[k]; t < p.entry_start[k + 1]; ++t) {
            value += p.coefficient[t] * harmonics[p.term_harmonic[t]];
        }
        entries[k] = value;
    }
}

template <typename T>
void full_messages(const FullConvolution<T> &p, const T *records, int64_t count, const T *x,
                   const int64_t *offset, T *messages, const int64_t *target, T *scratch) {
    T *entries = scratch + kEdgeChunk * p.weights.n;
    for (int64_t first = 0; first < count; first += kEdgeChunk) {
        const int64_t many = count - first < kEdgeChunk ? count - first : kEdgeChunk;
        radial_weights<T, false>(p.layout, p.weights, records + first * p.layout.width(), many,
                                 scratch);
        for (int64_t e = 0; e < many; ++e) {
            const T *weight = scratch + e * p.weights.n;
            contract_harmonics(p, records + (first + e) * p.layout.width(), entries);
            const T *from = x + offset[first + e];
            T *to = messages + target[first + e];
            int64_t c = 0;
            for (; c + 4 * kBlock<T> <= p.channels; c += 4 * kBlock<T>) {
                full_edge<T, 4>(p, entries, from + c, weight + c, to + c);
            }
            for (; c < p.channels; c += kBlock<T>) {
                full_edge<T, 1>(p, entries, from + c, weight + c, to + c);
            }
        }
    }
}

template <typename T>
void full_messages_gradient(const FullConvolution<T> &p, const T *records, int64_t count,
                            const T *x, T *by_x, const int64_t *offset, const T *by_messages,
                            const int64_t *target, T *gradients, T *scratch) {
    constexpr int64_t kChunk = kEdgeChunk / 2;  // weights and slopes
    T *weighted = scratch + kEdgeChunk * p.weights.n;
    T *entries = weighted + p.n_rows * p.channels, *by_entries = entries + p.n_entries + 16;
    for (int64_t first = 0; first < count; first += kChunk) {
        const int64_t many = count - first < kChunk ? count - first : kChunk;
        radial_weights<T, true>(p.layout, p.weights, records + first * p.layout.width(), many,
                                scratch);
        for (int64_t e = 0; e < many; ++e) {
            const int64_t edge = first + e;
            const T *weight = scratch + 2 * e * p.weights.n, *slope = weight + p.weights.n;
            const T *from = x + offset[edge], *grad = by_messages + target[edge];
            T *to = by_x + offset[edge], *out = gradients + edge * EdgeLayout::kGradientWidth;
            contract_harmonics(p, records + edge * p.layout.width(), entries);
            for (int64_t k = 0; k < p.n_entries; ++k) {
                by_entries[k] = T(0);
            }
            T by_distance = T(0);
            int64_t c = 0;
            for (; c + 4 * kBlock<T> <= p.channels; c += 4 * kBlock<T>) {
                by_distance +=
                    full_edge_gradient<T, 4>(p, entries, from + c, to + c, grad + c, weight + c,
                                             slope + c, weighted + c, by_entries);
            }
            for (; c < p.channels; c += kBlock<T>) {
                by_distance +=
                    full_edge_gradient<T, 1>(p, entries, from + c, to + c, grad + c, weight + c,
                                             slope + c, weighted + c, by_entries);
            }
            for (int64_t m = 0; m < 16; ++m) {
                out[m] = T(0);
            }
            for (int64_t k = 0; k < p.n_entries; ++k) {
                for (int32_t t = p.entry_start[k]; t < p.entry_start[k + 1]; ++t) {
                    out[p.term_harmonic[t]] += p.coefficient[t] * by_entries[k];
                }
            }
            out[EdgeLayout::kByDistance] = by_distance;
        }
    }
}

template <typename T>
Kernels<T> make() {
    return {&multiply<T>,      &edge_records<T>,           &edge_gradients<T>,
            &species_sum<T>,   &species_sum_gradient<T>,   &couple<T>,
            &weigh_rows<T>,    &scalar_messages<T>,        &scalar_messages_gradient<T>,
            &full_messages<T>, &full_messages_gradient<T>, &silu<T>,
            &scale<T>};
}

template Kernels<float> make<float>();
template Kernels<double> make<double>();

}  // namespace equicalc::direct::EQUICALC_ISA
