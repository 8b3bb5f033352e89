// Vectors of the processor that a file is compiled for. A file of kernels defines EQUICALC_ISA (a
// namespace), EQUICALC_LANE_BYTES (the width of a register) and its target before it includes this
// and the kernels; unlike the 64-byte vectors of simd.h, these never need to be split, so that
// loops know how many registers they use.
#pragma once

#include <cstdint>
#include <type_traits>

#define EQUICALC_INLINE inline __attribute__((always_inline))
#define EQUICALC_LAMBDA __attribute__((always_inline))
#pragma GCC diagnostic ignored "-Wpsabi"
#pragma GCC optimize("no-math-errno")  // roots of whole registers: nobody asks errno afterwards

namespace equicalc::direct::EQUICALC_ISA {

// N numbers in as many registers as they need.
template <typename T, int N>
struct Pack {
    static constexpr int kBytes =
        int(N * sizeof(T)) < EQUICALC_LANE_BYTES ? int(N * sizeof(T)) : EQUICALC_LANE_BYTES;
    static constexpr int kLanes = kBytes / int(sizeof(T));
    static constexpr int kCount = N / kLanes;
    typedef T V __attribute__((vector_size(kBytes), aligned(alignof(T)), may_alias));
    V v[kCount];

    static EQUICALC_INLINE Pack zero() {
        Pack result;
#pragma GCC unroll 16
        for (int i = 0; i < kCount; ++i) {
            result.v[i] = V{};
        }
        return result;
    }
    static EQUICALC_INLINE Pack load(const T *from) {
        Pack result;
#pragma GCC unroll 16
        for (int i = 0; i < kCount; ++i) {
            result.v[i] = *reinterpret_cast<const V *>(from + i * kLanes);
        }
        return result;
    }
    EQUICALC_INLINE void store(T *to) const {
#pragma GCC unroll 16
        for (int i = 0; i < kCount; ++i) {
            *reinterpret_cast<V *>(to + i * kLanes) = v[i];
        }
    }
    EQUICALC_INLINE void add(T factor, const Pack &other) {
#pragma GCC unroll 16
        for (int i = 0; i < kCount; ++i) {
            v[i] += factor * other.v[i];
        }
    }
    EQUICALC_INLINE void add(const Pack &left, const Pack &right) {
#pragma GCC unroll 16
        for (int i = 0; i < kCount; ++i) {
            v[i] += left.v[i] * right.v[i];
        }
    }
    friend EQUICALC_INLINE Pack operator*(const Pack &left, const Pack &right) {
        Pack result;
#pragma GCC unroll 16
        for (int i = 0; i < kCount; ++i) {
            result.v[i] = left.v[i] * right.v[i];
        }
        return result;
    }
};

// Sum over the lanes of one register in a fixed order: halves are added.
template <typename T, int kLanes, typename V>
EQUICALC_INLINE T sum_lanes(const V &value) {
    if constexpr (kLanes == 1) {
        return value[0];
    } else {
        typedef T Half __attribute__((vector_size(kLanes / 2 * sizeof(T)), aligned(alignof(T))));
        Half low, high;
        __builtin_memcpy(&low, &value, sizeof(Half));
        __builtin_memcpy(&high, reinterpret_cast<const char *>(&value) + sizeof(Half),
                         sizeof(Half));
        return sum_lanes<T, kLanes / 2, Half>(low + high);
    }
}

template <typename T, int N>
EQUICALC_INLINE T sum(const Pack<T, N> &pack) {
    auto total = pack.v[0];
    for (int i = 1; i < Pack<T, N>::kCount; ++i) {
        total += pack.v[i];
    }
    return sum_lanes<T, Pack<T, N>::kLanes>(total);
}

// One register.
template <typename T>
using Register = Pack<T, EQUICALC_LANE_BYTES / int(sizeof(T))>;
// 64 bytes, in which channels are counted.
template <typename T>
using Block = Pack<T, 64 / int(sizeof(T))>;
// Eight numbers, in which radial functions are counted.
template <typename T>
using Eight = Pack<T, 8>;

}  // namespace equicalc::direct::EQUICALC_ISA
