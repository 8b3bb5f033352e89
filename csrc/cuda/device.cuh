// Launches functors of groups on the device; for files that nvcc compiles.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "cuda/lanes.h"
#include "cuda/launch.h"

namespace equicalc::groups {

inline constexpr int kThreads = 128;

template <typename F>
int64_t memory_of(const F &f) {
    if constexpr (requires { f.memory_bytes(); }) {
        return (f.memory_bytes() + 15) / 16 * 16;
    } else {
        return 0;
    }
}

template <typename F>
__global__ void __launch_bounds__(kThreads) run_warps(const F f, int64_t n_items, int64_t memory) {
    extern __shared__ __align__(16) char shared[];
    const int64_t warp = threadIdx.x / 32;
    const int64_t item = blockIdx.x * int64_t(kThreads / 32) + warp;
    if (item < n_items) {
        f(item, Warp{shared + warp * memory});
    }
}

template <typename F>
__global__ void __launch_bounds__(kThreads) run_threads(const F f, int64_t n_items) {
    const int64_t item = blockIdx.x * int64_t(kThreads) + threadIdx.x;
    if (item < n_items) {
        f(item, Lane{nullptr});
    }
}

template <typename F>
void launch_on_cuda(const F &f, int64_t n_items, void *stream) {
    if (n_items <= 0) {
        return;
    }
    const int64_t per_block = F::kWarp ? kThreads / 32 : kThreads;
    const auto blocks = static_cast<unsigned>((n_items + per_block - 1) / per_block);
    const auto on = static_cast<cudaStream_t>(stream);
    if constexpr (F::kWarp) {
        const int64_t memory = memory_of(f);
        run_warps<<<blocks, kThreads, memory * per_block, on>>>(f, n_items, memory);
    } else {
        run_threads<<<blocks, kThreads, 0, on>>>(f, n_items);
    }
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) {
        throw std::runtime_error(std::string("equicalc: a CUDA kernel did not start: ") +
                                 cudaGetErrorString(error));
    }
}

// What the lists of functors, at the end of their headers, are called with.
struct OnCuda {
    template <typename F>
    static void add() {
        Launches<F>::on_cuda = &launch_on_cuda<F>;
        Available::on_cuda = true;
    }
};

}  // namespace equicalc::groups
