// Couplings of features whose tables are constants. Included by the files that compile the kernels,
// one for each kind of processor.
#pragma once

#include "direct/kernels.h"
#include "vectors/lanes.h"

namespace equicalc::direct::EQUICALC_ISA {

// Calls body with kBegin, .., kEnd - 1 as constants.
template <int kBegin, typename Body, int... I>
EQUICALC_INLINE void for_these(const Body &body, std::integer_sequence<int, I...>) {
    (body(std::integral_constant<int, kBegin + I>{}), ...);
}

template <int kBegin, int kEnd, typename Body>
EQUICALC_INLINE void for_constants(const Body &body) {
    for_these<kBegin>(body, std::make_integer_sequence<int, kEnd - kBegin>());
}

// sum (+)= factor a b, with no more multiplications than there must be
template <typename T, const auto &kTable, int kTerm, bool kFirst, typename V>
EQUICALC_INLINE void add_product(V &sum, const V &a, const V &b) {
    constexpr double kFactor = kTable.terms[kTerm].factor;
    const V left = kFactor == 1.0 || kFactor == -1.0 ? a : T(kFactor) * a;
    if constexpr (kFirst) {
        sum = kFactor == -1.0 ? -left * b : left * b;
    } else if constexpr (kFactor == -1.0) {
        sum -= left * b;
    } else {
        sum += left * b;
    }
}

// Components of one register of channels.
template <typename T>
struct Components {
    typedef typename Register<T>::V V;
    V v[kFixedComponents];

    EQUICALC_INLINE explicit Components(Features<const T> from) {
#pragma GCC unroll 16
        for (int m = 0; m < kFixedComponents; ++m) {
            v[m] = Register<T>::load(from.data + m * from.stride).v[0];
        }
    }
    EQUICALC_INLINE void store(Features<T> to) const {
#pragma GCC unroll 16
        for (int m = 0; m < kFixedComponents; ++m) {
            Register<T>{{v[m]}}.store(to.data + m * to.stride);
        }
    }
};

template <typename T, const auto &kTable>
EQUICALC_INLINE void couple_lanes(int64_t channels, const T *weight, Features<const T> left,
                                  Features<const T> right, Features<T> out) {
    typedef typename Register<T>::V V;
    const Components<T> a(left), b(right);
    for_constants<0, kFixedComponents>([&](auto m) EQUICALC_LAMBDA {
        constexpr int kFirst = kTable.first_row(m.value), kEnd = kTable.first_row(m.value + 1);
        V total;
        for_constants<kFirst, kEnd>([&](auto row) EQUICALC_LAMBDA {
            constexpr int kTerm = kTable.first_term(row.value);
            V sum;
            for_constants<kTerm, kTable.first_term(row.value + 1)>([&](auto t) EQUICALC_LAMBDA {
                constexpr FixedTerm kOf = kTable.terms[t.value];
                add_product<T, kTable, t.value, t.value == kTerm>(sum, a.v[kOf.left],
                                                                  b.v[kOf.right]);
            });
            const V w = Register<T>::load(weight + kTable.rows[row.value].path * channels).v[0];
            if constexpr (row.value == kFirst) {
                total = sum * w;
            } else {
                total += sum * w;
            }
        });
        Register<T>{{total}}.store(out.data + m.value * out.stride);
    });
}

// Adds to the gradient by the left or the right factor.
template <typename T, const auto &kTable, bool kByLeft, typename V>
EQUICALC_INLINE void add_gradient(const V *weighted, const V *other, V *by) {
    for_constants<0, kTable.n_terms>([&](auto t) EQUICALC_LAMBDA {
        constexpr FixedTerm kOf = kTable.terms[t.value];
        add_product<T, kTable, t.value, false>(by[kByLeft ? kOf.left : kOf.right],
                                               weighted[kOf.row],
                                               other[kByLeft ? kOf.right : kOf.left]);
    });
}

template <typename T, const auto &kTable>
EQUICALC_INLINE void couple_gradient_lanes(int64_t channels, const T *weight,
                                           Features<const T> grad, Features<const T> left,
                                           Features<const T> right, Features<T> by_left,
                                           Features<T> by_right) {
    typedef typename Register<T>::V V;
    const Components<T> g(grad), a(left), b(right);
    V weighted[kTable.n_rows];
    for_constants<0, kTable.n_rows>([&](auto row) EQUICALC_LAMBDA {
        constexpr FixedRow kOf = kTable.rows[row.value];
        weighted[row.value] =
            g.v[kOf.target] * Register<T>::load(weight + kOf.path * channels).v[0];
    });
    const auto add = [&](auto is_left, const Components<T> &other, Features<T> to) EQUICALC_LAMBDA {
        Components<T> by(Features<const T>{to.data, to.stride});
        add_gradient<T, kTable, is_left.value>(weighted, other.v, by.v);
        by.store(to);
    };
    add(std::true_type{}, b, by_left);
    add(std::false_type{}, a, by_right);
}

template <typename T>
void couple_fixed(FixedCoupling which, int64_t channels, const T *weight, Features<const T> left,
                  Features<const T> right, Features<T> out) {
    for (int64_t c = 0; c < channels; c += Register<T>::kLanes) {
        const Features<const T> a{left.data + c, left.stride}, b{right.data + c, right.stride};
        const Features<T> to{out.data + c, out.stride};
        if (which == FixedCoupling::square) {
            couple_lanes<T, kSquare>(channels, weight + c, a, a, to);
        } else {
            couple_lanes<T, kProduct>(channels, weight + c, a, b, to);
        }
    }
}

template <typename T>
void couple_fixed_gradient(FixedCoupling which, int64_t channels, const T *weight,
                           Features<const T> grad, Features<const T> left, Features<const T> right,
                           Features<T> by_left, Features<T> by_right) {
    for (int64_t c = 0; c < channels; c += Register<T>::kLanes) {
        const Features<const T> g{grad.data + c, grad.stride};
        const Features<const T> a{left.data + c, left.stride}, b{right.data + c, right.stride};
        const Features<T> by_a{by_left.data + c, by_left.stride};
        const Features<T> by_b{by_right.data + c, by_right.stride};
        if (which == FixedCoupling::square) {
            couple_gradient_lanes<T, kSquare>(channels, weight + c, g, a, a, by_a, by_a);
        } else {
            couple_gradient_lanes<T, kProduct>(channels, weight + c, g, a, b, by_a, by_b);
        }
    }
}

}  // namespace equicalc::direct::EQUICALC_ISA
