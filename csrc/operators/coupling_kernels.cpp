#include "operators/coupling_kernels.h"

#include <algorithm>

#include "vectors/targets.h"

namespace equicalc::kernels {
namespace {

using simd::load;
using simd::store;

template <typename S, typename T>
EQUICALC_INLINE void add(T *target, const typename S::type &value) {
    store<S>(target, load<S>(target) + value);
}

// sum over the terms of a row of coefficient a[left] b[right]; a and b point to the block.
template <typename S, typename T>
EQUICALC_INLINE typename S::type row_sum(const Coupling<T> &p, int64_t row, const T *a,
                                         const T *b) {
    typename S::type value{};
    for (int64_t t = p.row_start[row]; t < p.row_start[row + 1]; ++t) {
        value += p.coefficient[t] * load<S>(a + p.left[t] * p.n_channels) *
                 load<S>(b + p.right[t] * p.n_channels);
    }
    return value;
}

// da[left] += coefficient factor b[right] and db[right] += coefficient factor a[left].
template <typename S, typename T>
EQUICALC_INLINE void add_row_gradient(const Coupling<T> &p, int64_t row,
                                      const typename S::type &factor, const T *a, const T *b, T *da,
                                      T *db) {
    for (int64_t t = p.row_start[row]; t < p.row_start[row + 1]; ++t) {
        const auto scaled = p.coefficient[t] * factor;
        const int64_t left = p.left[t] * p.n_channels, right = p.right[t] * p.n_channels;
        add<S>(da + left, scaled * load<S>(b + right));
        add<S>(db + right, scaled * load<S>(a + left));
    }
}

template <typename Target, typename T>
EQUICALC_INLINE void couple_body(const Coupling<T> &p, int64_t begin, int64_t end, T *out) {
    const int64_t size = p.n_components * p.n_channels, weights = p.n_paths * p.n_channels;
    for (int64_t n = begin; n < end; ++n) {
        const T *a = p.a + n * size, *b = p.b + n * size;
        const T *weight = p.weight + p.species[n] * weights;
        std::fill_n(out + n * size, size, T(0));
        simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
            using S = decltype(s);
            for (int64_t row = 0; row < p.n_rows; ++row) {
                const auto value = row_sum<S>(p, row, a + c, b + c) *
                                   load<S>(weight + p.row_path[row] * p.n_channels + c);
                add<S>(out + n * size + p.row_out[row] * p.n_channels + c, value);
            }
        });
    }
}

template <typename Target, typename T>
EQUICALC_INLINE void couple_backward_body(const Coupling<T> &p, int64_t begin, int64_t end,
                                          const T *grad, const CouplingGradients<T> &to) {
    const int64_t size = p.n_components * p.n_channels, weights = p.n_paths * p.n_channels;
    for (int64_t n = begin; n < end; ++n) {
        const T *a = p.a + n * size, *b = p.b + n * size;
        const T *weight = p.weight + p.species[n] * weights;
        T *da = to.a + n * size, *db = to.b + n * size;
        std::fill_n(da, size, T(0));
        std::fill_n(db, size, T(0));
        if (to.weight) {
            std::fill_n(to.weight + n * weights, weights, T(0));
        }
        simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
            using S = decltype(s);
            for (int64_t row = 0; row < p.n_rows; ++row) {
                const int64_t path = p.row_path[row] * p.n_channels + c;
                const auto g = load<S>(grad + n * size + p.row_out[row] * p.n_channels + c);
                add_row_gradient<S>(p, row, g * load<S>(weight + path), a + c, b + c, da + c,
                                    db + c);
                if (to.weight) {
                    add<S>(to.weight + n * weights + path, g * row_sum<S>(p, row, a + c, b + c));
                }
            }
        });
    }
}

template <typename Target, typename T>
EQUICALC_INLINE void couple_second_body(const Coupling<T> &p, const CouplingTangents<T> &along,
                                        int64_t begin, int64_t end, const T *grad,
                                        const CouplingGradients<T> &to, T *grad_grad) {
    const int64_t size = p.n_components * p.n_channels, weights = p.n_paths * p.n_channels;
    for (int64_t n = begin; n < end; ++n) {
        const T *a = p.a + n * size, *b = p.b + n * size;
        const T *ta = along.a + n * size, *tb = along.b + n * size;
        const T *weight = p.weight + p.species[n] * weights;
        const T *t_weight = along.weight ? along.weight + n * weights : nullptr;
        T *da = to.a + n * size, *db = to.b + n * size, *dw = to.weight + n * weights;
        std::fill_n(da, size, T(0));
        std::fill_n(db, size, T(0));
        std::fill_n(dw, weights, T(0));
        std::fill_n(grad_grad + n * size, size, T(0));
        simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
            using S = decltype(s);
            for (int64_t row = 0; row < p.n_rows; ++row) {
                const int64_t path = p.row_path[row] * p.n_channels + c;
                const int64_t out = n * size + p.row_out[row] * p.n_channels + c;
                const auto g = load<S>(grad + out), w = load<S>(weight + path);
                const auto change =
                    row_sum<S>(p, row, ta + c, b + c) + row_sum<S>(p, row, a + c, tb + c);
                add<S>(dw + path, g * change);
                add<S>(grad_grad + out, w * change);
                add_row_gradient<S>(p, row, g * w, ta + c, tb + c, da + c, db + c);
                if (t_weight) {
                    const auto tw = load<S>(t_weight + path);
                    add<S>(grad_grad + out, tw * row_sum<S>(p, row, a + c, b + c));
                    add_row_gradient<S>(p, row, g * tw, a + c, b + c, da + c, db + c);
                }
            }
        });
    }
}

// The loops as what simd::run takes.
EQUICALC_BODY(CoupleLoop, couple_body)
EQUICALC_BODY(CoupleBackwardLoop, couple_backward_body)
EQUICALC_BODY(CoupleSecondLoop, couple_second_body)

}  // namespace

#define EQUICALC_INSTANTIATE(T)                                                                    \
    void couple(const Coupling<T> &p, int64_t begin, int64_t end, T *out) {                        \
        simd::run<CoupleLoop>(p, begin, end, out);                                                 \
    }                                                                                              \
    void couple_backward(const Coupling<T> &p, int64_t begin, int64_t end, const T *grad,          \
                         const CouplingGradients<T> &to) {                                         \
        simd::run<CoupleBackwardLoop>(p, begin, end, grad, to);                                    \
    }                                                                                              \
    void couple_second(const Coupling<T> &p, const CouplingTangents<T> &along, int64_t begin,      \
                       int64_t end, const T *grad, const CouplingGradients<T> &to, T *grad_grad) { \
        simd::run<CoupleSecondLoop>(p, along, begin, end, grad, to, grad_grad);                    \
    }

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::kernels
