#include "operators/convolution_kernels.h"

#include <algorithm>
#include <cmath>

#include "vectors/targets.h"

namespace equicalc::kernels {
namespace {

using simd::load;
using simd::store;

template <typename Target, typename T>
EQUICALC_INLINE void outer_sum_body(const OuterSum<T> &p, const EdgeRows &rows, int64_t begin,
                                    int64_t end, T *sums) {
    for (int64_t i = begin; i < end; ++i) {
        T *out = sums + i * p.n_components * p.width;
        std::fill_n(out, p.n_components * p.width, T(0));
        for (int64_t e = rows.start[i]; e < rows.start[i + 1]; ++e) {
            simd::for_channels<Target, T>(p.width, [&](auto s, int64_t k) EQUICALC_LAMBDA {
                using S = decltype(s);
                const auto weight = load<S>(p.weights + e * p.width + k);
                for (int64_t m = 0; m < p.n_components; ++m) {
                    T *row = out + m * p.width + k;
                    store<S>(row, load<S>(row) + p.harmonics[e * p.n_components + m] * weight);
                }
            });
        }
    }
}

template <typename Target, typename T>
EQUICALC_INLINE void outer_sum_backward_body(const OuterSum<T> &p, const EdgeRows &rows,
                                             int64_t begin, int64_t end, const T *grad_sums,
                                             T *grad_harmonics, T *grad_weights) {
    for (int64_t i = begin; i < end; ++i) {
        const T *grad = grad_sums + i * p.n_components * p.width;
        for (int64_t e = rows.start[i]; e < rows.start[i + 1]; ++e) {
            const T *harmonics = p.harmonics + e * p.n_components;
            simd::Accumulator<Target, T> dy[kMaxComponents] = {};
            simd::for_channels<Target, T>(p.width, [&](auto s, int64_t k) EQUICALC_LAMBDA {
                using S = decltype(s);
                const auto weight = load<S>(p.weights + e * p.width + k);
                typename S::type dw{};
                for (int64_t m = 0; m < p.n_components; ++m) {
                    const auto g = load<S>(grad + m * p.width + k);
                    dw += harmonics[m] * g;
                    dy[m].template add<S>(weight * g);
                }
                store<S>(grad_weights + e * p.width + k, dw);
            });
            for (int64_t m = 0; m < p.n_components; ++m) {
                grad_harmonics[e * p.n_components + m] = dy[m].total();
            }
        }
    }
}

template <typename T>
EQUICALC_INLINE T normalisation(int64_t degree) {
    return T(1) / std::sqrt(T(2 * degree + 1));
}

// R[e, l, c...] of one block of channels.
template <typename S, typename T>
EQUICALC_INLINE typename S::type radial_weight(const ScalarConvolution<T> &p, const T *radial,
                                               int64_t degree, int64_t c) {
    const int64_t stride = (p.l_max + 1) * p.n_channels;
    const T *mix = p.mix + degree * p.n_channels + c;
    typename S::type value{};
    for (int64_t b = 0; b < p.n_radial; ++b) {
        value += radial[b] * load<S>(mix + b * stride);
    }
    return value;
}

// sum over m of Y_lm x_lm of one block of channels.
template <typename S, typename T>
EQUICALC_INLINE typename S::type projection(const T *harmonics, const T *x, int64_t n_channels,
                                            int64_t degree, int64_t c) {
    typename S::type value{};
    for (int64_t m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
        value += harmonics[m] * load<S>(x + m * n_channels + c);
    }
    return value;
}

template <typename Target, typename T>
EQUICALC_INLINE void scalar_body(const ScalarConvolution<T> &p, const EdgeRows &rows, int64_t begin,
                                 int64_t end, T *messages) {
    const int64_t n_degrees = p.l_max + 1, n_components = n_degrees * n_degrees;
    for (int64_t i = begin; i < end; ++i) {
        T *out = messages + i * n_degrees * p.n_channels;
        std::fill_n(out, n_degrees * p.n_channels, T(0));
        for (int64_t e = rows.start[i]; e < rows.start[i + 1]; ++e) {
            const T *x = p.x + rows.senders[e] * n_components * p.n_channels;
            const T *harmonics = p.harmonics + e * n_components;
            const T *radial = p.radial + e * p.n_radial;
            simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
                using S = decltype(s);
                for (int64_t degree = 0; degree < n_degrees; ++degree) {
                    const auto weight = radial_weight<S>(p, radial, degree, c);
                    const auto value = projection<S>(harmonics, x, p.n_channels, degree, c);
                    T *row = out + degree * p.n_channels + c;
                    store<S>(row, load<S>(row) + normalisation<T>(degree) * weight * value);
                }
            });
        }
    }
}

template <typename Target, typename T>
EQUICALC_INLINE void scalar_edges_body(const ScalarConvolution<T> &p, const EdgeRows &rows,
                                       int64_t begin, int64_t end, const T *grad_messages,
                                       T *grad_radial, T *grad_harmonics) {
    const int64_t n_degrees = p.l_max + 1, n_components = n_degrees * n_degrees;
    const int64_t stride = n_degrees * p.n_channels;
    for (int64_t i = begin; i < end; ++i) {
        const T *grad = grad_messages + i * stride;
        for (int64_t e = rows.start[i]; e < rows.start[i + 1]; ++e) {
            const T *x = p.x + rows.senders[e] * n_components * p.n_channels;
            const T *harmonics = p.harmonics + e * n_components;
            const T *radial = p.radial + e * p.n_radial;
            simd::Accumulator<Target, T> dy[kMaxComponents] = {};
            simd::Accumulator<Target, T> db[kMaxRadial] = {};
            simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
                using S = decltype(s);
                for (int64_t degree = 0; degree < n_degrees; ++degree) {
                    const auto g =
                        normalisation<T>(degree) * load<S>(grad + degree * p.n_channels + c);
                    const auto value = projection<S>(harmonics, x, p.n_channels, degree, c);
                    const auto d_weight = g * value;
                    const auto d_value = g * radial_weight<S>(p, radial, degree, c);
                    for (int64_t m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
                        dy[m].template add<S>(d_value * load<S>(x + m * p.n_channels + c));
                    }
                    const T *mix = p.mix + degree * p.n_channels + c;
                    for (int64_t b = 0; b < p.n_radial; ++b) {
                        db[b].template add<S>(d_weight * load<S>(mix + b * stride));
                    }
                }
            });
            for (int64_t m = 0; m < n_components; ++m) {
                grad_harmonics[e * n_components + m] = dy[m].total();
            }
            for (int64_t b = 0; b < p.n_radial; ++b) {
                grad_radial[e * p.n_radial + b] = db[b].total();
            }
        }
    }
}

template <typename Target, typename T>
EQUICALC_INLINE void scalar_senders_body(const ScalarConvolution<T> &p, const SenderRows &rows,
                                         int64_t begin, int64_t end, const T *grad_messages,
                                         T *grad_x) {
    const int64_t n_degrees = p.l_max + 1, n_components = n_degrees * n_degrees;
    for (int64_t j = begin; j < end; ++j) {
        T *out = grad_x + j * n_components * p.n_channels;
        std::fill_n(out, n_components * p.n_channels, T(0));
        for (int64_t k = rows.start[j]; k < rows.start[j + 1]; ++k) {
            const int64_t e = rows.edges[k];
            const T *grad = grad_messages + rows.receivers[e] * n_degrees * p.n_channels;
            const T *harmonics = p.harmonics + e * n_components;
            const T *radial = p.radial + e * p.n_radial;
            simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
                using S = decltype(s);
                for (int64_t degree = 0; degree < n_degrees; ++degree) {
                    const auto d_value = normalisation<T>(degree) *
                                         load<S>(grad + degree * p.n_channels + c) *
                                         radial_weight<S>(p, radial, degree, c);
                    for (int64_t m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
                        T *row = out + m * p.n_channels + c;
                        store<S>(row, load<S>(row) + harmonics[m] * d_value);
                    }
                }
            });
        }
    }
}

// The loops as what simd::run takes.
EQUICALC_BODY(OuterSumLoop, outer_sum_body)
EQUICALC_BODY(OuterSumBackwardLoop, outer_sum_backward_body)
EQUICALC_BODY(ScalarLoop, scalar_body)
EQUICALC_BODY(ScalarEdgesLoop, scalar_edges_body)
EQUICALC_BODY(ScalarSendersLoop, scalar_senders_body)

}  // namespace

#define EQUICALC_INSTANTIATE(T)                                                                    \
    void outer_sum(const OuterSum<T> &p, const EdgeRows &rows, int64_t begin, int64_t end,         \
                   T *sums) {                                                                      \
        simd::run<OuterSumLoop>(p, rows, begin, end, sums);                                        \
    }                                                                                              \
    void outer_sum_backward(const OuterSum<T> &p, const EdgeRows &rows, int64_t begin,             \
                            int64_t end, const T *grad_sums, T *grad_harmonics, T *grad_weights) { \
        simd::run<OuterSumBackwardLoop>(p, rows, begin, end, grad_sums, grad_harmonics,            \
                                        grad_weights);                                             \
    }                                                                                              \
    void scalar_convolution(const ScalarConvolution<T> &p, const EdgeRows &rows, int64_t begin,    \
                            int64_t end, T *messages) {                                            \
        simd::run<ScalarLoop>(p, rows, begin, end, messages);                                      \
    }                                                                                              \
    void scalar_convolution_edges(const ScalarConvolution<T> &p, const EdgeRows &rows,             \
                                  int64_t begin, int64_t end, const T *grad, T *grad_radial,       \
                                  T *grad_harmonics) {                                             \
        simd::run<ScalarEdgesLoop>(p, rows, begin, end, grad, grad_radial, grad_harmonics);        \
    }                                                                                              \
    void scalar_convolution_senders(const ScalarConvolution<T> &p, const SenderRows &rows,         \
                                    int64_t begin, int64_t end, const T *grad, T *grad_x) {        \
        simd::run<ScalarSendersLoop>(p, rows, begin, end, grad, grad_x);                           \
    }

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::kernels
