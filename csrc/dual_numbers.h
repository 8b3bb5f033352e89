// Numbers with their change along one direction, for second derivatives of formulas that are
// templates over the type of their numbers.
#pragma once

namespace equicalc {

template <typename T>
struct Dual {
    T value = 0, along = 0;

    Dual() = default;
    Dual(T number, T change = 0) : value(number), along(change) {}

    Dual &operator+=(const Dual &other) {
        value += other.value;
        along += other.along;
        return *this;
    }
    friend Dual operator+(const Dual &a, const Dual &b) {
        return {a.value + b.value, a.along + b.along};
    }
    friend Dual operator-(const Dual &a, const Dual &b) {
        return {a.value - b.value, a.along - b.along};
    }
    friend Dual operator*(const Dual &a, const Dual &b) {
        return {a.value * b.value, a.along * b.value + a.value * b.along};
    }
};

}  // namespace equicalc
