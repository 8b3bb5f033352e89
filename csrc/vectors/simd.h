// Vectors for the kernels. Their width is that of a register of the target (targets.h): wider ones,
// which compilers accept as well, live in memory and cost several times the arithmetic. A lane
// count of one serves the channels that do not fill a vector.
#pragma once

#include <cstdint>
#include <cstring>

// Templates must end up inside the function of a target, or they would be compiled for the oldest
// machine.
#define EQUICALC_INLINE inline __attribute__((always_inline))
#define EQUICALC_LAMBDA __attribute__((always_inline))
// Wide vectors never cross a function boundary, so their calling convention does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace equicalc::simd {

inline constexpr int64_t kBytes = 64;

template <typename T>
struct Single {
    typedef T type __attribute__((vector_size(sizeof(T)), aligned(alignof(T))));
    static constexpr int64_t lanes = 1;
};

template <typename S, typename T>
EQUICALC_INLINE typename S::type load(const T *source) {
    typename S::type value;
    std::memcpy(&value, source, sizeof(value));
    return value;
}

template <typename S, typename T>
EQUICALC_INLINE void store(T *target, const typename S::type &value) {
    std::memcpy(target, &value, sizeof(value));
}

// Sum over the lanes in a fixed order: halves are added, which stays in registers.
template <typename T, int64_t kLanes, typename V>
EQUICALC_INLINE T sum_lanes(const V &value) {
    if constexpr (kLanes == 1) {
        return value[0];
    } else {
        typedef T Half __attribute__((vector_size(kLanes / 2 * sizeof(T)), aligned(alignof(T))));
        Half low, high;
        std::memcpy(&low, &value, sizeof(Half));
        std::memcpy(&high, reinterpret_cast<const char *>(&value) + sizeof(Half), sizeof(Half));
        return sum_lanes<T, kLanes / 2, Half>(low + high);
    }
}

template <typename S, typename T>
EQUICALC_INLINE T sum(const typename S::type &value) {
    return sum_lanes<T, S::lanes, typename S::type>(value);
}

// A sum over channels that stays in vectors until the end.
template <typename Target, typename T>
struct Accumulator {
    using Lane = typename Target::template Vector<T>;
    typename Lane::type wide;
    T rest;

    template <typename S>
    EQUICALC_INLINE void add(const typename S::type &value) {
        if constexpr (S::lanes > 1) {
            wide += value;
        } else {
            rest += value[0];
        }
    }
    EQUICALC_INLINE T total() const { return rest + sum<Lane, T>(wide); }
};

// Calls body(S{}, first) for every block of channels: vectors, then single ones for the rest.
template <typename Target, typename T, typename Body>
EQUICALC_INLINE void for_channels(int64_t n_channels, const Body &body) {
    using Lane = typename Target::template Vector<T>;
    int64_t first = 0;
    for (; first + Lane::lanes <= n_channels; first += Lane::lanes) {
        body(Lane{}, first);
    }
    for (; first < n_channels; ++first) {
        body(Single<T>{}, first);
    }
}

}  // namespace equicalc::simd
