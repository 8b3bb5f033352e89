// How functors of groups of lanes come to run: operators ask for them by type, and whatever has
// compiled them puts a function here when it is loaded. Compilers of operators need not know CUDA.
#pragma once

#include <cstdint>

namespace equicalc::groups {

template <typename F>
using Launch = void (*)(const F &, int64_t n_items, void *stream);

template <typename F>
struct Launches {
    static inline Launch<F> on_cuda = nullptr;
    // by tests only
    static inline Launch<F> on_host = nullptr;
};

// What there is besides the kernels of the CPU.
struct Available {
    static inline bool on_cuda = false;
    static inline bool on_host = false;
};

}  // namespace equicalc::groups
