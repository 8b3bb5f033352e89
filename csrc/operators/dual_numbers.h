// Numbers with their change along one direction, for second derivatives of formulas that are
// templates over the type of their numbers.
#pragma once

#include "cuda/lanes.h"

namespace equicalc {

template <typename T>
struct Dual {
    T value = 0, along = 0;

    Dual() = default;
    EQUICALC_BOTH Dual(T number, T change = 0) : value(number), along(change) {}

    EQUICALC_BOTH Dual &operator+=(const Dual &other) {
        value += other.value;
        along += other.along;
        return *this;
    }
    EQUICALC_BOTH friend Dual operator+(const Dual &a, const Dual &b) {
        return {a.value + b.value, a.along + b.along};
    }
    EQUICALC_BOTH friend Dual operator-(const Dual &a, const Dual &b) {
        return {a.value - b.value, a.along - b.along};
    }
    EQUICALC_BOTH friend Dual operator*(const Dual &a, const Dual &b) {
        return {a.value * b.value, a.along * b.value + a.value * b.along};
    }
};

}  // namespace equicalc
