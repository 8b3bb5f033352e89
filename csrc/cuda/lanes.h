// Kernels for graphics processors, written so that a C++ compiler takes them too. A kernel is a
// functor whose call operator works on one item (an atom, an edge) with a group of lanes: lanes
// stride over channels, and sums over lanes end up in all of them. On the device a group is a
// warp, or one thread; on the host it is one lane, with which tests compare the same source with
// the kernels of the CPU. Every sum has one owner, or is one of integers: the same bits every time.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define EQUICALC_BOTH __host__ __device__ __forceinline__
#define EQUICALC_UNROLL _Pragma("unroll")
// over room for B radial functions: in registers when there is little
#define EQUICALC_UNROLL_RADIAL _Pragma("unroll (B <= 8 ? B : 1)")
#define EQUICALC_UNROLL_ROOM _Pragma("unroll (N <= 8 ? N : 1)")
#else
#define EQUICALC_BOTH inline
#define EQUICALC_UNROLL
#define EQUICALC_UNROLL_RADIAL
#define EQUICALC_UNROLL_ROOM
#endif

namespace equicalc::groups {

// A group of one lane: a thread of the device, or the host.
struct Lane {
    void *memory;  // of the group, as much as the functor asks for

    static constexpr int kWidth = 1;
    EQUICALC_BOTH int index() const { return 0; }
    template <typename T>
    EQUICALC_BOTH T sum(T value) const {
        return value;
    }
    EQUICALC_BOTH void meet() const {}
};

#ifdef __CUDACC__
struct Warp {
    void *memory;

    static constexpr int kWidth = 32;
    __device__ __forceinline__ int index() const { return static_cast<int>(threadIdx.x % 32); }
    // In an order that does not depend on anything.
    template <typename T>
    __device__ __forceinline__ T sum(T value) const {
        EQUICALC_UNROLL
        for (int distance = 16; distance > 0; distance /= 2) {
            value += __shfl_xor_sync(0xffffffffu, value, distance);
        }
        return value;
    }
    // What lanes have written into the memory of the group is seen by all.
    __device__ __forceinline__ void meet() const { __syncwarp(); }
};
#endif

// Writes the sums of n numbers of all lanes.
template <int kCount, typename Group, typename T>
EQUICALC_BOTH void store_sums(const Group &group, const T *values, int64_t n, T *out) {
    EQUICALC_UNROLL
    for (int k = 0; k < kCount; ++k) {
        if (k < n) {
            const T total = group.sum(values[k]);
            if (group.index() == 0) {
                out[k] = total;
            }
        }
    }
}

}  // namespace equicalc::groups
