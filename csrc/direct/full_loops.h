// The full convolution: sums over edges of harmonics coupled with features of senders. Included by
// the files that compile the kernels, one for each kind of processor.
#pragma once

#include "direct/radial_weights.h"

namespace equicalc::direct::EQUICALC_ISA {

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
            T *to = by_x + offset[edge], *out = gradients + edge * p.layout.gradient_width();
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
            out[p.layout.by_distance()] = by_distance;
        }
    }
}

}  // namespace equicalc::direct::EQUICALC_ISA
