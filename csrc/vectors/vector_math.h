// Elementary functions of vectors, to rounding of their type.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "vectors/simd.h"

namespace equicalc::simd {

// e^x for |x| below 80 (float) or 700 (double), elsewhere that of the limit: x = n ln 2 + r, the
// Taylor series of e^r, and n added to the exponent. Lane is a vector type of simd.h or targets.h.
template <typename Lane, typename T>
EQUICALC_INLINE typename Lane::type exponential(const typename Lane::type &argument) {
    using V = typename Lane::type;
    constexpr bool kSingle = std::is_same_v<T, float>;
    using Integer = std::conditional_t<kSingle, int32_t, int64_t>;
    typedef Integer Integers __attribute__((vector_size(sizeof(V)), aligned(alignof(T))));
    constexpr T kLimit = kSingle ? T(80) : T(700);
    constexpr int kTerms = kSingle ? 7 : 13;
    constexpr int kMantissa = kSingle ? 23 : 52, kBias = kSingle ? 127 : 1023;
    // adding 1.5 2^mantissa rounds to an integer
    constexpr T kRound = kSingle ? T(12582912) : T(6755399441055744);
    constexpr T kHigh = kSingle ? T(0.693359375) : T(6.93147180369123816490e-01);
    constexpr T kLow = kSingle ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
    V x = argument > kLimit ? V{} + kLimit : argument;
    x = x < -kLimit ? V{} - kLimit : x;
    const V n = (x * T(1.4426950408889634) + kRound) - kRound;
    const V r = (x - n * kHigh) - n * kLow;
    V value = V{} + T(1);
    for (int k = kTerms; k > 0; --k) {
        value = T(1) + value * r * (T(1) / T(k));
    }
    const Integers power = (__builtin_convertvector(n, Integers) + kBias) << kMantissa;
    V scale;
    std::memcpy(&scale, &power, sizeof(scale));
    return value * scale;
}

}  // namespace equicalc::simd
