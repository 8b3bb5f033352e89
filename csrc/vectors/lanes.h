// Vectors of the processor that a file is compiled for. A file of kernels defines EQUICALC_ISA (a
// namespace), EQUICALC_LANE_BYTES (the width of a register) and its target before it includes this
// and the kernels; unlike the 64-byte vectors of simd.h, these never need to be split, so that
// loops know how many registers they use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#define EQUICALC_INLINE inline __attribute__((always_inline))
#define EQUICALC_LAMBDA __attribute__((always_inline))
#pragma GCC diagnostic ignored "-Wpsabi"

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

// Lanes of two vectors in turn: those of their lower halves, or of their upper ones.
template <bool kUpper, typename V, size_t... I>
EQUICALC_INLINE V interleave(const V &a, const V &b, std::index_sequence<I...>) {
    constexpr size_t kLanes = sizeof...(I), kFirst = kUpper ? kLanes / 2 : 0;
#ifdef __clang__
    return __builtin_shufflevector(a, b, int(kFirst + I / 2 + I % 2 * kLanes)...);
#else
    typedef std::conditional_t<sizeof(V) / kLanes == 4, int32_t, int64_t> Index;
    typedef Index Places __attribute__((vector_size(sizeof(V))));
    return __builtin_shuffle(a, b, Places{Index(kFirst + I / 2 + I % 2 * kLanes)...});
#endif
}

// As many vectors as each has lanes: rows become columns. Interleaving the first half of the rows
// with the second turns the bits of (row, lane) by one place; when they have turned by half of
// their number, rows and lanes are exchanged.
template <int kLanes, typename V>
EQUICALC_INLINE void transpose(V *rows) {
    typedef std::make_index_sequence<kLanes> All;
#pragma GCC unroll 16
    for (int turned = 1; turned < kLanes; turned *= 2) {
        V next[kLanes];
#pragma GCC unroll 16
        for (int k = 0; k < kLanes / 2; ++k) {
            next[2 * k] = interleave<false>(rows[k], rows[k + kLanes / 2], All());
            next[2 * k + 1] = interleave<true>(rows[k], rows[k + kLanes / 2], All());
        }
#pragma GCC unroll 16
        for (int k = 0; k < kLanes; ++k) {
            rows[k] = next[k];
        }
    }
}

// The sums of as many vectors as each has lanes, in one vector: half of the transposition's work.
template <int kLanes, int kRows = kLanes, typename V>
EQUICALC_INLINE V sums_of_rows(const V *rows) {
    typedef std::make_index_sequence<kLanes> All;
    if constexpr (kRows == 1) {
        return rows[0];
    } else {
        V next[kRows / 2];
#pragma GCC unroll 16
        for (int k = 0; k < kRows / 2; ++k) {
            next[k] = interleave<false>(rows[k], rows[k + kRows / 2], All()) +
                      interleave<true>(rows[k], rows[k + kRows / 2], All());
        }
        return sums_of_rows<kLanes, kRows / 2>(next);
    }
}

// Sums of M packs to as many numbers, and zeros up to a whole number of registers.
template <typename T, int N, int M>
EQUICALC_INLINE void store_sums(const Pack<T, N> (&packs)[M], T *to) {
    typedef Pack<T, N> P;
    constexpr int kLanes = P::kLanes, kRows = (M + kLanes - 1) / kLanes * kLanes;
    typename P::V rows[kRows];
#pragma GCC unroll 32
    for (int m = 0; m < kRows; ++m) {
        rows[m] = typename P::V{};
        if (m < M) {
            rows[m] = packs[m].v[0];
#pragma GCC unroll 16
            for (int i = 1; i < P::kCount; ++i) {
                rows[m] += packs[m].v[i];
            }
        }
    }
#pragma GCC unroll 32
    for (int m = 0; m < kRows; m += kLanes) {
        *reinterpret_cast<typename P::V *>(to + m) = sums_of_rows<kLanes>(rows + m);
    }
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

}  // namespace equicalc::direct::EQUICALC_ISA
