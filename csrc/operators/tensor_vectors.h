// What the kernels of tensor_kernels.h do with one part of channels at a time.
#pragma once

#include <cstring>
#include <type_traits>

#include "vectors/targets.h"
#include "operators/tensor_kernels.h"

namespace equicalc::kernels {

// Rows of kPart channels in vectors of a target.
template <typename Target, typename T>
struct Vectors {
    static constexpr int kCount = Target::kVectors;
    static constexpr int kPart = Target::template kPart<T>;
    using Lane = typename Target::template Vector<T>;
    using V = typename Lane::type;

    struct Row {
        V of[kCount];
    };

    static EQUICALC_INLINE Row load(const T *source) {
        Row row;
        simd::unroll<kCount>([&](auto v) EQUICALC_LAMBDA {
            row.of[v] = simd::load<Lane>(source + v * Lane::lanes);
        });
        return row;
    }
    static EQUICALC_INLINE void store(T *target, const Row &row) {
        simd::unroll<kCount>([&](auto v) EQUICALC_LAMBDA {
            simd::store<Lane>(target + v * Lane::lanes, row.of[v]);
        });
    }
    // The first n_valid channels, all of them when there are more.
    static EQUICALC_INLINE void store(T *target, const Row &row, int64_t n_valid) {
        if (n_valid >= kPart) {
            store(target, row);
        } else {
            T buffer[kPart];
            store(buffer, row);
            std::memcpy(target, buffer, n_valid * sizeof(T));
        }
    }
    static EQUICALC_INLINE Row scaled(const Row &row, T factor) {
        Row result;
        simd::unroll<kCount>([&](auto v) EQUICALC_LAMBDA { result.of[v] = factor * row.of[v]; });
        return result;
    }
    static EQUICALC_INLINE Row product(const Row &a, const Row &b) {
        Row result;
        simd::unroll<kCount>([&](auto v) EQUICALC_LAMBDA { result.of[v] = a.of[v] * b.of[v]; });
        return result;
    }
    static EQUICALC_INLINE void add_scaled(Row &sum, const Row &row, T factor) {
        simd::unroll<kCount>([&](auto v) EQUICALC_LAMBDA { sum.of[v] += factor * row.of[v]; });
    }
    static EQUICALC_INLINE void add_product(Row &sum, const Row &a, const Row &b) {
        simd::unroll<kCount>([&](auto v) EQUICALC_LAMBDA { sum.of[v] += a.of[v] * b.of[v]; });
    }
    // sum += a b, all vectors of a row into one.
    static EQUICALC_INLINE void add_inner(V &sum, const Row &a, const Row &b) {
        simd::unroll<kCount>([&](auto v) EQUICALC_LAMBDA { sum += a.of[v] * b.of[v]; });
    }
    // Four rows of a table, kBlock apart, times their weights.
    static EQUICALC_INLINE Row spline(const T *rows, const T *weights) {
        Row value = scaled(load(rows), weights[0]);
        simd::unroll<3>([&](auto k) EQUICALC_LAMBDA {
            add_scaled(value, load(rows + (k + 1) * kBlock), weights[k + 1]);
        });
        return value;
    }
    // The same with two sets of weights, for values and slopes.
    static EQUICALC_INLINE void spline(const T *rows, const T *weights, const T *slopes, Row &value,
                                       Row &slope) {
        const Row first = load(rows);
        value = scaled(first, weights[0]);
        slope = scaled(first, slopes[0]);
        simd::unroll<3>([&](auto k) EQUICALC_LAMBDA {
            const Row row = load(rows + (k + 1) * kBlock);
            add_scaled(value, row, weights[k + 1]);
            add_scaled(slope, row, slopes[k + 1]);
        });
    }
};

// Calls body(l1, l2, l3) with the degrees as constants.
template <typename T, typename Body>
void for_degrees(const TensorCoupling<T> &coupling, const Body &body) {
    simd::unroll<64>([&](auto index) {
        constexpr int l1 = index / 16, l2 = index / 4 % 4, l3 = index % 4;
        if constexpr (l3 <= l1 + l2 && l2 <= l1 + l3 && l1 <= l2 + l3) {
            if (coupling.l1 == l1 && coupling.l2 == l2 && coupling.l3 == l3) {
                body(std::integral_constant<int, l1>{}, std::integral_constant<int, l2>{},
                     std::integral_constant<int, l3>{});
            }
        }
    });
}

}  // namespace equicalc::kernels
