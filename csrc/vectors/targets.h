// Kernels whose vectors are as wide as those of the processor: a body is a template over a target,
// each target is one function compiled for it, and the first call chooses. Bodies and everything
// in them must be EQUICALC_INLINE, or they would be compiled for the oldest machine.
#pragma once

#include <cstdint>
#include <utility>

#include "vectors/instructions.h"
#include "vectors/simd.h"

namespace equicalc::simd {

// Most channels that are worked on together: one cache line of floats, half of one of doubles.
template <typename T>
inline constexpr int kMaxPart = kBytes / sizeof(T);

// Vectors of kWidth bytes; kVectorCount of them are worked on together, and kRegisterCount stay out
// of memory.
template <int kWidth, int kVectorCount, int kRegisterCount>
struct Target {
    static constexpr int kVectors = kVectorCount;
    static constexpr int kRegisters = kRegisterCount;

    template <typename T>
    struct Vector {
        typedef T type __attribute__((vector_size(kWidth), aligned(alignof(T))));
        static constexpr int64_t lanes = kWidth / sizeof(T);
    };
    template <typename T>
    static constexpr int kPart = kVectorCount * kWidth / sizeof(T);
};

using Avx512 = Target<64, 1, 32>;
using Avx2 = Target<32, 2, 16>;
using Portable = Target<16, 1, 16>;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EQUICALC_X86 1
#define EQUICALC_FOR_AVX512 __attribute__((target("arch=x86-64-v4")))
#define EQUICALC_FOR_AVX2 __attribute__((target("arch=x86-64-v3")))
#else
#define EQUICALC_X86 0
#endif

// Body::run<Target>(arguments...) with the target of instructions().
#if EQUICALC_X86
template <typename Body, typename... Arguments>
EQUICALC_FOR_AVX512 void run_on_avx512(const Arguments &...arguments) {
    Body::template run<Avx512>(arguments...);
}

template <typename Body, typename... Arguments>
EQUICALC_FOR_AVX2 void run_on_avx2(const Arguments &...arguments) {
    Body::template run<Avx2>(arguments...);
}

template <typename Body, typename... Arguments>
void run(const Arguments &...arguments) {
    static const Instructions chosen = instructions();
    switch (chosen) {
        case Instructions::avx512:
            return run_on_avx512<Body>(arguments...);
        case Instructions::avx2:
            return run_on_avx2<Body>(arguments...);
        case Instructions::portable:
            return Body::template run<Portable>(arguments...);
    }
}
#else
template <typename Body, typename... Arguments>
void run(const Arguments &...arguments) {
    Body::template run<Portable>(arguments...);
}
#endif

// Makes a function template <Target, ...> a body.
#define EQUICALC_BODY(Name, function)                                    \
    struct Name {                                                        \
        template <typename Target, typename... Arguments>                \
        static EQUICALC_INLINE void run(const Arguments &...arguments) { \
            function<Target>(arguments...);                              \
        }                                                                \
    };

// Calls f(0), f(1), ... f(kCount - 1) with constants, so that arrays indexed by them become
// registers.
template <int kCount, typename F>
EQUICALC_INLINE void unroll(const F &f) {
    [&]<int... k>(std::integer_sequence<int, k...>) EQUICALC_LAMBDA {
        (f(std::integral_constant<int, k>{}), ...);
    }(std::make_integer_sequence<int, kCount>{});
}

}  // namespace equicalc::simd
