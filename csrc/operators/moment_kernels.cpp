#include "operators/moment_kernels.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "vectors/targets.h"

namespace equicalc::kernels {
namespace {

using simd::load;
using simd::store;

// One vector for each degree.
template <typename S, int L>
struct PerDegree {
    typename S::type of[L] = {};
};

template <int L, typename T>
struct Norms {
    T of[L];
    EQUICALC_INLINE Norms() {
        for (int degree = 0; degree < L; ++degree) {
            of[degree] = T(1) / std::sqrt(T(2 * degree + 1));
        }
    }
};

// value[l] += (2 l + 1)^(-1/2) sum over m of Y_lm x_lm, of one block of channels.
template <typename S, int L, typename T>
EQUICALC_INLINE void project(PerDegree<S, L> &value, const Norms<L, T> &norms, const T *harmonics,
                             const T *x, int64_t n_channels) {
    for (int degree = 0; degree < L; ++degree) {
        typename S::type sum{};
        for (int m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
            sum += harmonics[m] * load<S>(x + m * n_channels);
        }
        value.of[degree] += norms.of[degree] * sum;
    }
}

// sum over b of B_b grad[b, l], times the norm of the degree.
template <typename S, int L, typename T>
EQUICALC_INLINE PerDegree<S, L> contract(const Norms<L, T> &norms, const T *radial, const T *grad,
                                         int64_t n_radial, int64_t n_channels) {
    PerDegree<S, L> value;
    for (int64_t b = 0; b < n_radial; ++b) {
        for (int degree = 0; degree < L; ++degree) {
            value.of[degree] += radial[b] * load<S>(grad + (b * L + degree) * n_channels);
        }
    }
    for (int degree = 0; degree < L; ++degree) {
        value.of[degree] *= norms.of[degree];
    }
    return value;
}

// row[b, l] += B_b value[l]
template <typename S, int L, typename T>
EQUICALC_INLINE void add_outer(T *row, const T *radial, const PerDegree<S, L> &value,
                               int64_t n_radial, int64_t n_channels) {
    for (int64_t b = 0; b < n_radial; ++b) {
        for (int degree = 0; degree < L; ++degree) {
            T *target = row + (b * L + degree) * n_channels;
            store<S>(target, load<S>(target) + radial[b] * value.of[degree]);
        }
    }
}

// row[lm] += Y_lm value[l]
template <typename S, int L, typename T>
EQUICALC_INLINE void add_harmonics(T *row, const T *harmonics, const PerDegree<S, L> &value,
                                   int64_t n_channels) {
    for (int degree = 0; degree < L; ++degree) {
        for (int m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
            T *target = row + m * n_channels;
            store<S>(target, load<S>(target) + harmonics[m] * value.of[degree]);
        }
    }
}

template <typename Target, int L, bool Tangents, typename T>
EQUICALC_INLINE void moments_body(const Moments<T> &p, const EdgeRows &rows, int64_t begin,
                                  int64_t end, T *moments) {
    const int64_t size = p.n_radial * L * p.n_channels;
    const Norms<L, T> norms;
    for (int64_t i = begin; i < end; ++i) {
        T *out = moments + i * size;
        std::fill_n(out, size, T(0));
        for (int64_t e = rows.start[i]; e < rows.start[i + 1]; ++e) {
            const int64_t sender = rows.senders[e] * L * L * p.n_channels;
            const T *x = p.at.x + sender, *y = p.at.harmonics + e * L * L;
            const T *radial = p.at.radial + e * p.n_radial;
            simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
                using S = decltype(s);
                PerDegree<S, L> value;
                if constexpr (Tangents) {
                    PerDegree<S, L> change;
                    const T *ty = p.along.harmonics + e * L * L;
                    project<S, L>(change, norms, ty, x + c, p.n_channels);
                    project<S, L>(change, norms, y, p.along.x + sender + c, p.n_channels);
                    add_outer<S, L>(out + c, radial, change, p.n_radial, p.n_channels);
                }
                project<S, L>(value, norms, y, x + c, p.n_channels);
                add_outer<S, L>(out + c, Tangents ? p.along.radial + e * p.n_radial : radial, value,
                                p.n_radial, p.n_channels);
            });
        }
    }
}

template <typename Target, int L, bool Tangents, typename T>
EQUICALC_INLINE void edges_body(const Moments<T> &p, const EdgeRows &rows, int64_t begin,
                                int64_t end, const T *grad_moments, T *grad_radial,
                                T *grad_harmonics) {
    const Norms<L, T> norms;
    for (int64_t i = begin; i < end; ++i) {
        const T *grad = grad_moments + i * p.n_radial * L * p.n_channels;
        for (int64_t e = rows.start[i]; e < rows.start[i + 1]; ++e) {
            const int64_t sender = rows.senders[e] * L * L * p.n_channels;
            const T *x = p.at.x + sender, *tx = Tangents ? p.along.x + sender : nullptr;
            const T *y = p.at.harmonics + e * L * L, *radial = p.at.radial + e * p.n_radial;
            const T *ty = Tangents ? p.along.harmonics + e * L * L : nullptr;
            simd::Accumulator<Target, T> db[kMaxRadial] = {};
            simd::Accumulator<Target, T> dy[L * L] = {};
            simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
                using S = decltype(s);
                PerDegree<S, L> value;
                project<S, L>(value, norms, Tangents ? ty : y, x + c, p.n_channels);
                if constexpr (Tangents) {
                    project<S, L>(value, norms, y, tx + c, p.n_channels);
                }
                for (int64_t b = 0; b < p.n_radial; ++b) {
                    typename S::type sum{};
                    for (int degree = 0; degree < L; ++degree) {
                        const auto g = load<S>(grad + (b * L + degree) * p.n_channels + c);
                        sum += g * value.of[degree];
                    }
                    db[b].template add<S>(sum);
                }
                if (!grad_harmonics) {
                    return;
                }
                const auto q = contract<S, L>(norms, radial, grad + c, p.n_radial, p.n_channels);
                PerDegree<S, L> tq;
                if constexpr (Tangents) {
                    tq = contract<S, L>(norms, p.along.radial + e * p.n_radial, grad + c,
                                        p.n_radial, p.n_channels);
                }
                for (int degree = 0; degree < L; ++degree) {
                    for (int m = degree * degree; m < (degree + 1) * (degree + 1); ++m) {
                        const int64_t at = m * p.n_channels + c;
                        if constexpr (Tangents) {
                            dy[m].template add<S>(q.of[degree] * load<S>(tx + at));
                            dy[m].template add<S>(tq.of[degree] * load<S>(x + at));
                        } else {
                            dy[m].template add<S>(q.of[degree] * load<S>(x + at));
                        }
                    }
                }
            });
            for (int64_t b = 0; b < p.n_radial; ++b) {
                grad_radial[e * p.n_radial + b] = db[b].total();
            }
            for (int m = 0; grad_harmonics && m < L * L; ++m) {
                grad_harmonics[e * L * L + m] = dy[m].total();
            }
        }
    }
}

template <typename Target, int L, bool Tangents, typename T>
EQUICALC_INLINE void senders_body(const Moments<T> &p, const SenderRows &rows, int64_t begin,
                                  int64_t end, const T *grad_moments, T *grad_x) {
    const Norms<L, T> norms;
    for (int64_t j = begin; j < end; ++j) {
        T *out = grad_x + j * L * L * p.n_channels;
        std::fill_n(out, L * L * p.n_channels, T(0));
        for (int64_t k = rows.start[j]; k < rows.start[j + 1]; ++k) {
            const int64_t e = rows.edges[k];
            const T *grad = grad_moments + rows.receivers[e] * p.n_radial * L * p.n_channels;
            const T *y = p.at.harmonics + e * L * L, *radial = p.at.radial + e * p.n_radial;
            simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
                using S = decltype(s);
                const auto q = contract<S, L>(norms, radial, grad + c, p.n_radial, p.n_channels);
                if constexpr (Tangents) {
                    const T *ty = p.along.harmonics + e * L * L;
                    const auto tq = contract<S, L>(norms, p.along.radial + e * p.n_radial, grad + c,
                                                   p.n_radial, p.n_channels);
                    add_harmonics<S, L>(out + c, ty, q, p.n_channels);
                    add_harmonics<S, L>(out + c, y, tq, p.n_channels);
                } else {
                    add_harmonics<S, L>(out + c, y, q, p.n_channels);
                }
            });
        }
    }
}

// Calls body with l_max + 1 and the presence of tangents as compile-time constants.
template <typename T, typename Body>
void specialise(const Moments<T> &p, const Body &body) {
    const auto with_degrees = [&](auto degrees) {
        p.has_tangents ? body(degrees, std::true_type{}) : body(degrees, std::false_type{});
    };
    switch (p.l_max) {
        case 0:
            return with_degrees(std::integral_constant<int, 1>{});
        case 1:
            return with_degrees(std::integral_constant<int, 2>{});
        case 2:
            return with_degrees(std::integral_constant<int, 3>{});
        default:
            return with_degrees(std::integral_constant<int, 4>{});
    }
}

// The loops as what simd::run takes, one for each degree.
#define EQUICALC_MOMENT_LOOP(Name, function)                             \
    template <int L, bool Tangents>                                      \
    struct Name {                                                        \
        template <typename Target, typename... Arguments>                \
        static EQUICALC_INLINE void run(const Arguments &...arguments) { \
            function<Target, L, Tangents>(arguments...);                 \
        }                                                                \
    };

EQUICALC_MOMENT_LOOP(MomentsLoop, moments_body)
EQUICALC_MOMENT_LOOP(EdgesLoop, edges_body)
EQUICALC_MOMENT_LOOP(SendersLoop, senders_body)
#undef EQUICALC_MOMENT_LOOP

}  // namespace

#define EQUICALC_INSTANTIATE(T)                                                                   \
    void moments(const Moments<T> &p, const EdgeRows &rows, int64_t begin, int64_t end, T *out) { \
        specialise(p, [&](auto degrees, auto tangents) {                                          \
            simd::run<MomentsLoop<degrees.value, tangents.value>>(p, rows, begin, end, out);      \
        });                                                                                       \
    }                                                                                             \
    void moments_edges(const Moments<T> &p, const EdgeRows &rows, int64_t begin, int64_t end,     \
                       const T *grad, T *grad_radial, T *grad_harmonics) {                        \
        specialise(p, [&](auto degrees, auto tangents) {                                          \
            simd::run<EdgesLoop<degrees.value, tangents.value>>(p, rows, begin, end, grad,        \
                                                                grad_radial, grad_harmonics);     \
        });                                                                                       \
    }                                                                                             \
    void moments_senders(const Moments<T> &p, const SenderRows &rows, int64_t begin, int64_t end, \
                         const T *grad, T *grad_x) {                                              \
        specialise(p, [&](auto degrees, auto tangents) {                                          \
            simd::run<SendersLoop<degrees.value, tangents.value>>(p, rows, begin, end, grad,      \
                                                                  grad_x);                        \
        });                                                                                       \
    }

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::kernels
