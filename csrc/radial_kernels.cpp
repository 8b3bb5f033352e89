#include "radial_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "simd.h"

namespace equicalc::kernels {
namespace {

template <typename T>
using Vector = typename simd::Wide<T>::type;

// An array of vectors (a bare one as a template argument would lose its alignment).
template <typename T>
class Vectors {
  public:
    explicit Vectors(int64_t size) : cells_(size) {}
    EQUICALC_INLINE Vector<T> &operator[](int64_t index) { return cells_[index].value; }
    EQUICALC_INLINE const Vector<T> &operator[](int64_t index) const { return cells_[index].value; }

  private:
    struct Cell {
        Vector<T> value;
    };
    std::vector<Cell> cells_;
};

template <typename T>
EQUICALC_INLINE Vector<T> broadcast(T value) {
    return Vector<T>{} + value;
}

// e^x for |x| below 80 (float) or 700 (double), elsewhere that of the limit, to rounding:
// x = n ln 2 + r, the Taylor series of e^r, and n added to the exponent.
template <typename T>
EQUICALC_INLINE Vector<T> exponential(const Vector<T> &argument) {
    constexpr bool kSingle = std::is_same_v<T, float>;
    using Integer = std::conditional_t<kSingle, int32_t, int64_t>;
    typedef Integer Integers __attribute__((vector_size(simd::kBytes), aligned(alignof(T))));
    constexpr T kLimit = kSingle ? T(80) : T(700);
    constexpr int kTerms = kSingle ? 7 : 13;
    constexpr int kMantissa = kSingle ? 23 : 52, kBias = kSingle ? 127 : 1023;
    // adding 1.5 2^mantissa rounds to an integer
    constexpr T kRound = kSingle ? T(12582912) : T(6755399441055744);
    constexpr T kHigh = kSingle ? T(0.693359375) : T(6.93147180369123816490e-01);
    constexpr T kLow = kSingle ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
    Vector<T> x = argument > kLimit ? broadcast<T>(kLimit) : argument;
    x = x < -kLimit ? broadcast<T>(-kLimit) : x;
    const Vector<T> n = (x * T(1.4426950408889634) + kRound) - kRound;
    const Vector<T> r = (x - n * kHigh) - n * kLow;
    Vector<T> value = broadcast<T>(1);
    for (int k = kTerms; k > 0; --k) {
        value = T(1) + value * r * (T(1) / T(k));
    }
    const Integers power = (__builtin_convertvector(n, Integers) + kBias) << kMantissa;
    Vector<T> scale;
    std::memcpy(&scale, &power, sizeof(scale));
    return value * scale;
}

// What does not depend on weights, for the edges of one vector; edges beyond the end repeat the
// last one. Sines of multiples by recurrence, in double.
template <typename T>
struct Block {
    Vectors<T> bessel, bessel_slopes;
    Vector<T> cut, cut_slope;

    explicit Block(int64_t n_bessel) : bessel(n_bessel), bessel_slopes(n_bessel) {}

    EQUICALC_INLINE void fill(const RadialFunctions<T> &p, int64_t first, int64_t end) {
        const double step = M_PI / p.cutoff;
        for (int64_t lane = 0; lane < simd::Wide<T>::lanes; ++lane) {
            const double r = p.distance[std::min(first + lane, end - 1)];
            const double sine = std::sin(step * r), cosine = std::cos(step * r);
            double s = sine, c = cosine;
            for (int64_t k = 0; k < p.n_bessel; ++k) {
                const double value = p.prefactor * s / r;
                bessel[k][lane] = T(value);
                bessel_slopes[k][lane] = T((p.prefactor * step * double(k + 1) * c - value) / r);
                const double next = s * cosine + c * sine;
                c = c * cosine - s * sine;
                s = next;
            }
            const double x = std::min(r / p.cutoff, 1.0), x5 = x * x * x * x * x;
            cut[lane] = T(1 - x5 * x * (28 - x * (48 - x * 21)));
            cut_slope[lane] = T(-168 * x5 * (1 - x) * (1 - x) / p.cutoff);
        }
    }
};

// One hidden neuron: input, its slope by r, silu and its first derivatives.
template <typename T>
struct Neuron {
    Vector<T> slope, gate, active, gain;

    EQUICALC_INLINE Neuron(const RadialFunctions<T> &p, const Block<T> &block, int64_t k) {
        Vector<T> input = broadcast<T>(p.b1[k]);
        slope = Vector<T>{};
        for (int64_t b = 0; b < p.n_bessel; ++b) {
            const T weight = p.w1[k * p.n_bessel + b];
            input += weight * block.bessel[b];
            slope += weight * block.bessel_slopes[b];
        }
        gate = T(1) / (T(1) + exponential<T>(-input));
        active = input * gate;
        gain = gate + active * (T(1) - gate);
    }
};

template <typename T>
EQUICALC_INLINE void radial_functions_body(const RadialFunctions<T> &p, int64_t begin, int64_t end,
                                           T *values, T *slopes) {
    constexpr int64_t kLanes = simd::Wide<T>::lanes;
    Block<T> block(p.n_bessel);
    Vectors<T> out(p.n_radial), out_slopes(p.n_radial);
    for (int64_t first = begin; first < end; first += kLanes) {
        block.fill(p, first, end);
        for (int64_t o = 0; o < p.n_radial; ++o) {
            out[o] = broadcast<T>(p.b2[o]);
            out_slopes[o] = Vector<T>{};
        }
        for (int64_t k = 0; k < p.n_hidden; ++k) {
            const Neuron<T> neuron(p, block, k);
            const Vector<T> slope = neuron.gain * neuron.slope;
            for (int64_t o = 0; o < p.n_radial; ++o) {
                out[o] += p.w2[o * p.n_hidden + k] * neuron.active;
                out_slopes[o] += p.w2[o * p.n_hidden + k] * slope;
            }
        }
        const int64_t count = std::min(kLanes, end - first);
        for (int64_t o = 0; o < p.n_radial; ++o) {
            const Vector<T> value = out[o] * block.cut;
            const Vector<T> slope = out_slopes[o] * block.cut + out[o] * block.cut_slope;
            for (int64_t lane = 0; lane < count; ++lane) {
                values[(first + lane) * p.n_radial + o] = value[lane];
                slopes[(first + lane) * p.n_radial + o] = slope[lane];
            }
        }
    }
}

template <typename T>
EQUICALC_INLINE void radial_weights_body(const RadialFunctions<T> &p, int64_t begin, int64_t end,
                                         const T *grad_values, const T *grad_slopes,
                                         T *grad_weights) {
    constexpr int64_t kLanes = simd::Wide<T>::lanes;
    Block<T> block(p.n_bessel);
    Vectors<T> out(p.n_radial), out_slopes(p.n_radial), sums(p.n_weights());
    const int64_t b1 = p.n_hidden * p.n_bessel, w2 = b1 + p.n_hidden;
    const int64_t b2 = w2 + p.n_radial * p.n_hidden;
    for (int64_t first = begin; first < end; first += kLanes) {
        block.fill(p, first, end);
        const int64_t count = std::min(kLanes, end - first);
        for (int64_t o = 0; o < p.n_radial; ++o) {
            Vector<T> by_value{}, by_slope{};
            for (int64_t lane = 0; lane < count; ++lane) {
                by_value[lane] = grad_values[(first + lane) * p.n_radial + o];
                by_slope[lane] = grad_slopes[(first + lane) * p.n_radial + o];
            }
            out[o] = by_value * block.cut + by_slope * block.cut_slope;
            out_slopes[o] = by_slope * block.cut;
            sums[b2 + o] += out[o];
        }
        for (int64_t k = 0; k < p.n_hidden; ++k) {
            const Neuron<T> neuron(p, block, k);
            const Vector<T> slope = neuron.gain * neuron.slope;
            Vector<T> by_active{}, by_slope{};
            for (int64_t o = 0; o < p.n_radial; ++o) {
                const int64_t at = o * p.n_hidden + k;
                by_active += p.w2[at] * out[o];
                by_slope += p.w2[at] * out_slopes[o];
                sums[w2 + at] += out[o] * neuron.active + out_slopes[o] * slope;
            }
            // second derivative of silu, gate (1 - gate) (2 + input (1 - 2 gate))
            const Vector<T> bend =
                (T(1) - neuron.gate) * (neuron.gain + neuron.gate - neuron.active * neuron.gate);
            const Vector<T> by_input = by_active * neuron.gain + by_slope * neuron.slope * bend;
            by_slope *= neuron.gain;
            sums[b1 + k] += by_input;
            for (int64_t b = 0; b < p.n_bessel; ++b) {
                sums[k * p.n_bessel + b] +=
                    by_input * block.bessel[b] + by_slope * block.bessel_slopes[b];
            }
        }
    }
    for (int64_t w = 0; w < p.n_weights(); ++w) {
        grad_weights[w] = simd::sum<simd::Wide<T>, T>(sums[w]);
    }
}

}  // namespace

#define EQUICALC_INSTANTIATE(T)                                                                    \
    EQUICALC_CLONES void radial_functions(const RadialFunctions<T> &p, int64_t begin, int64_t end, \
                                          T *values, T *slopes) {                                  \
        radial_functions_body<T>(p, begin, end, values, slopes);                                   \
    }                                                                                              \
    EQUICALC_CLONES void radial_weights(const RadialFunctions<T> &p, int64_t begin, int64_t end,   \
                                        const T *grad_values, const T *grad_slopes,                \
                                        T *grad_weights) {                                         \
        radial_weights_body<T>(p, begin, end, grad_values, grad_slopes, grad_weights);             \
    }

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::kernels
