#include "operators/radial_kernels.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "vectors/targets.h"
#include "vectors/vector_math.h"

namespace equicalc::kernels {
namespace {

using simd::load;
using simd::store;

// Edges that are worked on together: a few kilobytes for each row of hidden neurons.
constexpr int64_t kEdges = 64;
// Vectors of edges that one loop holds in registers.
constexpr int kGroup = 4;

// Functions of the edges of a tile: every function is a row of kEdges numbers, so that vectors hold
// one function of several edges. Edges beyond the end of the range repeat its last one.
template <typename Target, typename T>
class Tile {
  public:
    using Lane = typename Target::template Vector<T>;
    using V = typename Lane::type;
    static constexpr int64_t kStep = kGroup * Lane::lanes;
    static_assert(kEdges % kStep == 0);

    EQUICALC_INLINE explicit Tile(const RadialFunctions<T> &problem)
        : p(problem),
          storage_((2 * p.n_bessel + 5 * p.n_hidden + 2) * kEdges),
          bessel(storage_.data()),
          bessel_slopes(bessel + p.n_bessel * kEdges),
          active(bessel_slopes + p.n_bessel * kEdges),
          active_slopes(active + p.n_hidden * kEdges),
          slope(active_slopes + p.n_hidden * kEdges),
          gain(slope + p.n_hidden * kEdges),
          bend(gain + p.n_hidden * kEdges),
          cut(bend + p.n_hidden * kEdges),
          cut_slope(cut + kEdges) {}

    // Calls body(first) for every group of vectors.
    template <typename Body>
    static EQUICALC_INLINE void groups(const Body &body) {
        for (int64_t e = 0; e < kEdges; e += kStep) {
            body(e);
        }
    }

    // What does not depend on weights. Sines of multiples by recurrence, in double.
    EQUICALC_INLINE void fill(int64_t first, int64_t end) {
        const double step = M_PI / p.cutoff;
        double sine[kEdges], cosine[kEdges], s[kEdges], c[kEdges], inverse[kEdges];
        for (int64_t e = 0; e < kEdges; ++e) {
            const double r = p.distance[std::min(first + e, end - 1)];
            s[e] = sine[e] = std::sin(step * r);
            c[e] = cosine[e] = std::cos(step * r);
            inverse[e] = 1.0 / r;
            const double x = std::min(r / p.cutoff, 1.0), x5 = x * x * x * x * x;
            cut[e] = T(1 - x5 * x * (28 - x * (48 - x * 21)));
            cut_slope[e] = T(-168 * x5 * (1 - x) * (1 - x) / p.cutoff);
        }
        for (int64_t k = 0; k < p.n_bessel; ++k) {
            const double frequency = p.prefactor * step * double(k + 1);
            T *value = bessel + k * kEdges, *by_r = bessel_slopes + k * kEdges;
            for (int64_t e = 0; e < kEdges; ++e) {
                const double j = p.prefactor * s[e] * inverse[e];
                value[e] = T(j);
                by_r[e] = T((frequency * c[e] - j) * inverse[e]);
                const double next = s[e] * cosine[e] + c[e] * sine[e];
                c[e] = c[e] * cosine[e] - s[e] * sine[e];
                s[e] = next;
            }
        }
    }

    // silu of the hidden neurons with its slope by r; and, for gradients of weights, the slope of
    // its argument and its first and second derivatives.
    template <bool kDerivatives>
    EQUICALC_INLINE void activate() {
        for (int64_t k = 0; k < p.n_hidden; ++k) {
            groups([&](int64_t e) EQUICALC_LAMBDA {
                V input[kGroup], by_r[kGroup];
                simd::unroll<kGroup>([&](auto g) EQUICALC_LAMBDA {
                    input[g] = V{} + p.b1[k];
                    by_r[g] = V{};
                });
                for (int64_t b = 0; b < p.n_bessel; ++b) {
                    const T weight = p.w1[k * p.n_bessel + b];
                    const int64_t at = b * kEdges + e;
                    simd::unroll<kGroup>([&](auto g) EQUICALC_LAMBDA {
                        input[g] += weight * load<Lane>(bessel + at + g * Lane::lanes);
                        by_r[g] += weight * load<Lane>(bessel_slopes + at + g * Lane::lanes);
                    });
                }
                simd::unroll<kGroup>([&](auto g) EQUICALC_LAMBDA {
                    const int64_t at = k * kEdges + e + g * Lane::lanes;
                    const V gate = T(1) / (T(1) + simd::exponential<Lane, T>(-input[g]));
                    const V value = input[g] * gate;
                    const V first = gate + value * (T(1) - gate);
                    store<Lane>(active + at, value);
                    store<Lane>(active_slopes + at, V(first * by_r[g]));
                    if constexpr (kDerivatives) {
                        store<Lane>(slope + at, by_r[g]);
                        store<Lane>(gain + at, first);
                        store<Lane>(bend + at, V((T(1) - gate) * (first + gate - value * gate)));
                    }
                });
            });
        }
    }

    const RadialFunctions<T> &p;

  private:
    std::vector<T> storage_;

  public:
    T *bessel, *bessel_slopes, *active, *active_slopes, *slope, *gain, *bend, *cut, *cut_slope;
};

template <typename Target, typename T>
EQUICALC_INLINE void functions_body(const RadialFunctions<T> &p, int64_t begin, int64_t end,
                                    T *values, T *slopes) {
    using Tiles = Tile<Target, T>;
    using Lane = typename Tiles::Lane;
    using V = typename Lane::type;
    Tiles tile(p);
    for (int64_t first = begin; first < end; first += kEdges) {
        tile.fill(first, end);
        tile.template activate<false>();
        const int64_t count = std::min(kEdges, end - first);
        for (int64_t o = 0; o < p.n_radial; ++o) {
            T value[kEdges], slope[kEdges];
            Tiles::groups([&](int64_t e) EQUICALC_LAMBDA {
                V out[kGroup], by_r[kGroup];
                simd::unroll<kGroup>([&](auto g) EQUICALC_LAMBDA {
                    out[g] = V{} + p.b2[o];
                    by_r[g] = V{};
                });
                for (int64_t k = 0; k < p.n_hidden; ++k) {
                    const T weight = p.w2[o * p.n_hidden + k];
                    const int64_t at = k * kEdges + e;
                    simd::unroll<kGroup>([&](auto g) EQUICALC_LAMBDA {
                        out[g] += weight * load<Lane>(tile.active + at + g * Lane::lanes);
                        by_r[g] += weight * load<Lane>(tile.active_slopes + at + g * Lane::lanes);
                    });
                }
                simd::unroll<kGroup>([&](auto g) EQUICALC_LAMBDA {
                    const int64_t at = e + g * Lane::lanes;
                    const V cut = load<Lane>(tile.cut + at);
                    store<Lane>(value + at, V(out[g] * cut));
                    store<Lane>(slope + at,
                                V(by_r[g] * cut + out[g] * load<Lane>(tile.cut_slope + at)));
                });
            });
            for (int64_t e = 0; e < count; ++e) {
                values[(first + e) * p.n_radial + o] = value[e];
                slopes[(first + e) * p.n_radial + o] = slope[e];
            }
        }
    }
}

// Sum over the edges of a tile of a b + c d, all of them rows.
template <typename Target, typename T>
EQUICALC_INLINE T row_product(const T *a, const T *b, const T *c, const T *d) {
    using Lane = typename Target::template Vector<T>;
    typename Lane::type first{}, second{};
    for (int64_t e = 0; e < kEdges; e += Lane::lanes) {
        first += load<Lane>(a + e) * load<Lane>(b + e);
        second += load<Lane>(c + e) * load<Lane>(d + e);
    }
    return simd::sum<Lane, T>(first + second);
}

template <typename T>
EQUICALC_INLINE T row_sum(const T *row) {
    T sum = 0;
    for (int64_t e = 0; e < kEdges; ++e) {
        sum += row[e];
    }
    return sum;
}

// Gradients by the argument of a neuron and by its slope, from those by the outputs.
template <typename Target, typename T>
EQUICALC_INLINE void neuron_gradient(const Tile<Target, T> &tile, int64_t k, const T *by_out,
                                     const T *by_out_slope, T *by_input, T *by_slope) {
    using Lane = typename Tile<Target, T>::Lane;
    using V = typename Lane::type;
    const RadialFunctions<T> &p = tile.p;
    Tile<Target, T>::groups([&](int64_t e) EQUICALC_LAMBDA {
        V value[kGroup] = {}, slope[kGroup] = {};
        for (int64_t o = 0; o < p.n_radial; ++o) {
            const T weight = p.w2[o * p.n_hidden + k];
            const int64_t at = o * kEdges + e;
            simd::unroll<kGroup>([&](auto g) EQUICALC_LAMBDA {
                value[g] += weight * load<Lane>(by_out + at + g * Lane::lanes);
                slope[g] += weight * load<Lane>(by_out_slope + at + g * Lane::lanes);
            });
        }
        simd::unroll<kGroup>([&](auto g) EQUICALC_LAMBDA {
            const int64_t to = e + g * Lane::lanes, at = k * kEdges + to;
            const V gain = load<Lane>(tile.gain + at), bend = load<Lane>(tile.bend + at);
            store<Lane>(by_input + to,
                        V(value[g] * gain + slope[g] * load<Lane>(tile.slope + at) * bend));
            store<Lane>(by_slope + to, V(slope[g] * gain));
        });
    });
}

template <typename Target, typename T>
EQUICALC_INLINE void weights_body(const RadialFunctions<T> &p, int64_t begin, int64_t end,
                                  const T *grad_values, const T *grad_slopes, T *grad_weights) {
    Tile<Target, T> tile(p);
    std::vector<T> gradients(2 * p.n_radial * kEdges);
    T *by_out = gradients.data(), *by_out_slope = by_out + p.n_radial * kEdges;
    T *w1 = grad_weights, *b1 = w1 + p.n_hidden * p.n_bessel, *w2 = b1 + p.n_hidden;
    T *b2 = w2 + p.n_radial * p.n_hidden;
    std::fill_n(grad_weights, p.n_weights(), T(0));
    for (int64_t first = begin; first < end; first += kEdges) {
        tile.fill(first, end);
        tile.template activate<true>();
        const int64_t count = std::min(kEdges, end - first);
        for (int64_t o = 0; o < p.n_radial; ++o) {
            T *value = by_out + o * kEdges, *slope = by_out_slope + o * kEdges;
            std::fill_n(value, kEdges, T(0));
            std::fill_n(slope, kEdges, T(0));
            for (int64_t e = 0; e < count; ++e) {
                const T by_slope = grad_slopes[(first + e) * p.n_radial + o];
                value[e] = grad_values[(first + e) * p.n_radial + o] * tile.cut[e] +
                           by_slope * tile.cut_slope[e];
                slope[e] = by_slope * tile.cut[e];
            }
            b2[o] += row_sum(value);
        }
        for (int64_t k = 0; k < p.n_hidden; ++k) {
            const T *active = tile.active + k * kEdges, *slopes = tile.active_slopes + k * kEdges;
            for (int64_t o = 0; o < p.n_radial; ++o) {
                w2[o * p.n_hidden + k] += row_product<Target, T>(by_out + o * kEdges, active,
                                                                 by_out_slope + o * kEdges, slopes);
            }
            T by_input[kEdges], by_slope[kEdges];
            neuron_gradient<Target, T>(tile, k, by_out, by_out_slope, by_input, by_slope);
            b1[k] += row_sum(by_input);
            for (int64_t b = 0; b < p.n_bessel; ++b) {
                w1[k * p.n_bessel + b] += row_product<Target, T>(
                    by_input, tile.bessel + b * kEdges, by_slope, tile.bessel_slopes + b * kEdges);
            }
        }
    }
}

// The loops as what simd::run takes.
EQUICALC_BODY(FunctionsLoop, functions_body)
EQUICALC_BODY(WeightsLoop, weights_body)

}  // namespace

#define EQUICALC_INSTANTIATE(T)                                                               \
    void radial_functions(const RadialFunctions<T> &p, int64_t begin, int64_t end, T *values, \
                          T *slopes) {                                                        \
        simd::run<FunctionsLoop>(p, begin, end, values, slopes);                              \
    }                                                                                         \
    void radial_weights(const RadialFunctions<T> &p, int64_t begin, int64_t end,              \
                        const T *grad_values, const T *grad_slopes, T *grad_weights) {        \
        simd::run<WeightsLoop>(p, begin, end, grad_values, grad_slopes, grad_weights);        \
    }

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::kernels
