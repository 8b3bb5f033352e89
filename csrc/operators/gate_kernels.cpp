#include "operators/gate_kernels.h"

#include "vectors/targets.h"
#include "vectors/vector_math.h"

namespace equicalc::kernels {
namespace {

// Value and slope of a scaled activation function.
template <typename Lane, typename T>
struct Activated {
    typename Lane::type value, slope;

    EQUICALC_INLINE Activated(const typename Lane::type &x, Activation activation, T factor) {
        using V = typename Lane::type;
        if (activation == Activation::silu) {
            const V s = T(1) / (T(1) + simd::exponential<Lane, T>(-x));
            value = factor * x * s;
            slope = factor * s * (T(1) + x * (T(1) - s));
        } else {
            const V t = T(1) - T(2) / (T(1) + simd::exponential<Lane, T>(x + x));
            value = factor * t;
            slope = factor * (T(1) - t * t);
        }
    }
};

struct Forward {
    template <typename Target, typename T>
    static EQUICALC_INLINE void run(const GateLayout &layout, int64_t n_atoms, const T *in,
                                    T *out) {
        for (int64_t atom = 0; atom < n_atoms; ++atom) {
            for (const GateScalars &s : layout.scalars) {
                simd::for_channels<Target, T>(
                    s.size, [&]<typename Lane>(Lane, int64_t k) EQUICALC_LAMBDA {
                        const auto x = simd::load<Lane>(in + s.start + k);
                        const Activated<Lane, T> a(x, s.activation, T(s.factor));
                        simd::store<Lane>(out + s.start + k, a.value);
                    });
            }
            for (const GatedBlock &b : layout.blocks) {
                simd::for_channels<Target, T>(
                    b.n_channels, [&]<typename Lane>(Lane, int64_t k) EQUICALC_LAMBDA {
                        const auto x = simd::load<Lane>(in + b.gate + k);
                        const Activated<Lane, T> a(x, layout.activation, T(layout.factor));
                        for (int64_t m = 0; m < b.n_components; ++m) {
                            const int64_t at = m * b.n_channels + k;
                            simd::store<Lane>(out + b.out + at,
                                              a.value * simd::load<Lane>(in + b.in + at));
                        }
                    });
            }
            in += layout.width_in;
            out += layout.width_out;
        }
    }
};

struct Backward {
    template <typename Target, typename T>
    static EQUICALC_INLINE void run(const GateLayout &layout, int64_t n_atoms, const T *in,
                                    const T *grad, T *grad_in) {
        for (int64_t atom = 0; atom < n_atoms; ++atom) {
            for (const GateScalars &s : layout.scalars) {
                simd::for_channels<Target, T>(
                    s.size, [&]<typename Lane>(Lane, int64_t k) EQUICALC_LAMBDA {
                        const auto x = simd::load<Lane>(in + s.start + k);
                        const Activated<Lane, T> a(x, s.activation, T(s.factor));
                        simd::store<Lane>(grad_in + s.start + k,
                                          a.slope * simd::load<Lane>(grad + s.start + k));
                    });
            }
            for (const GatedBlock &b : layout.blocks) {
                simd::for_channels<Target, T>(
                    b.n_channels, [&]<typename Lane>(Lane, int64_t k) EQUICALC_LAMBDA {
                        const auto x = simd::load<Lane>(in + b.gate + k);
                        const Activated<Lane, T> a(x, layout.activation, T(layout.factor));
                        typename Lane::type sum{};
                        for (int64_t m = 0; m < b.n_components; ++m) {
                            const int64_t at = m * b.n_channels + k;
                            const auto g = simd::load<Lane>(grad + b.out + at);
                            sum += g * simd::load<Lane>(in + b.in + at);
                            simd::store<Lane>(grad_in + b.in + at, a.value * g);
                        }
                        simd::store<Lane>(grad_in + b.gate + k, a.slope * sum);
                    });
            }
            in += layout.width_in;
            grad += layout.width_out;
            grad_in += layout.width_in;
        }
    }
};

}  // namespace

void gate(const GateLayout &layout, int64_t n_atoms, const float *in, float *out) {
    simd::run<Forward>(layout, n_atoms, in, out);
}

void gate(const GateLayout &layout, int64_t n_atoms, const double *in, double *out) {
    simd::run<Forward>(layout, n_atoms, in, out);
}

void gate_backward(const GateLayout &layout, int64_t n_atoms, const float *in,
                   const float *grad_out, float *grad_in) {
    simd::run<Backward>(layout, n_atoms, in, grad_out, grad_in);
}

void gate_backward(const GateLayout &layout, int64_t n_atoms, const double *in,
                   const double *grad_out, double *grad_in) {
    simd::run<Backward>(layout, n_atoms, in, grad_out, grad_in);
}

}  // namespace equicalc::kernels
