// Shapes that functors of groups are compiled for: l_max + 1, and room for radial functions.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "cuda/lanes.h"

namespace equicalc::groups {

inline constexpr int kFewRadial = 8, kManyRadial = 32;

// 1 / sqrt(2 degree + 1)
template <typename T>
EQUICALC_BOTH constexpr T norm_of(int degree) {
    return degree == 0   ? T(1)
           : degree == 1 ? T(0.57735026918962576451)
           : degree == 2 ? T(0.44721359549995793928)
                         : T(0.37796447300922722721);
}

template <typename T, int L>
struct Degrees {};

template <typename T, int L, int B>
struct Shape {};

// Calls body(Degrees<T, L>{}) for all types and degrees.
template <typename Body>
void for_degrees(const Body &body) {
    [&]<int... k>(std::integer_sequence<int, k...>) {
        (body(Degrees<float, k + 1>{}), ...);
        (body(Degrees<double, k + 1>{}), ...);
    }(std::make_integer_sequence<int, 4>{});
}

// Calls body(Shape<T, L, B>{}) for all types, degrees and rooms for radial functions.
template <typename Body>
void for_shapes(const Body &body) {
    for_degrees([&]<typename T, int L>(Degrees<T, L>) {
        body(Shape<T, L, kFewRadial>{});
        body(Shape<T, L, kManyRadial>{});
    });
}

// Calls body(L) with the number of degrees, 1 to 4, as a constant.
template <typename Body>
void with_degrees(int64_t n_degrees, const Body &body) {
    switch (n_degrees) {
        case 1:
            return body(std::integral_constant<int, 1>{});
        case 2:
            return body(std::integral_constant<int, 2>{});
        case 3:
            return body(std::integral_constant<int, 3>{});
        default:
            return body(std::integral_constant<int, 4>{});
    }
}

// Calls body(L, B).
template <typename Body>
void with_shape(int64_t n_degrees, int64_t n_radial, const Body &body) {
    with_degrees(n_degrees, [&](auto degrees) {
        if (n_radial <= kFewRadial) {
            body(degrees, std::integral_constant<int, kFewRadial>{});
        } else {
            body(degrees, std::integral_constant<int, kManyRadial>{});
        }
    });
}

}  // namespace equicalc::groups
