// equicalc::gate for groups of lanes; what it computes is in gate_kernels.h.
#pragma once

#include <cmath>

#include "operators/gate_kernels.h"
#include "cuda/lanes.h"

namespace equicalc::groups {

inline constexpr int kMaxGateParts = 8;

// kernels::GateLayout with as many parts as fit into the arguments of a kernel.
struct GateLayout {
    int n_scalars, n_blocks;
    kernels::GateScalars scalars[kMaxGateParts];
    kernels::GatedBlock blocks[kMaxGateParts];
    kernels::Activation activation;
    double factor;
    int64_t width_in, width_out;
};

// Value and slope of a scaled activation function.
template <typename T>
struct Activated {
    T value, slope;

    EQUICALC_BOTH Activated(T x, kernels::Activation activation, T factor) {
        if (activation == kernels::Activation::silu) {
            const T s = T(1) / (T(1) + ::exp(-x));
            value = factor * x * s;
            slope = factor * s * (T(1) + x * (T(1) - s));
        } else {
            const T t = ::tanh(x);
            value = factor * t;
            slope = factor * (T(1) - t * t);
        }
    }
};

// Of an atom: a row of gated features.
template <typename T>
struct GateValues {
    static constexpr bool kWarp = true;
    GateLayout layout;
    const T *x;
    T *result;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t atom, const Group &group) const {
        const T *in = x + atom * layout.width_in;
        T *out = result + atom * layout.width_out;
        for (int part = 0; part < layout.n_scalars; ++part) {
            const kernels::GateScalars &s = layout.scalars[part];
            for (int64_t k = group.index(); k < s.size; k += Group::kWidth) {
                const Activated<T> a(in[s.start + k], s.activation, static_cast<T>(s.factor));
                out[s.start + k] = a.value;
            }
        }
        for (int part = 0; part < layout.n_blocks; ++part) {
            const kernels::GatedBlock &b = layout.blocks[part];
            for (int64_t k = group.index(); k < b.n_channels; k += Group::kWidth) {
                const Activated<T> a(in[b.gate + k], layout.activation,
                                     static_cast<T>(layout.factor));
                for (int64_t m = 0; m < b.n_components; ++m) {
                    out[b.out + m * b.n_channels + k] = a.value * in[b.in + m * b.n_channels + k];
                }
            }
        }
    }
};

// Of an atom: the gradient of a row of features.
template <typename T>
struct GateBackward {
    static constexpr bool kWarp = true;
    GateLayout layout;
    const T *x, *grad_result;
    T *grad_x;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t atom, const Group &group) const {
        const T *in = x + atom * layout.width_in, *grad = grad_result + atom * layout.width_out;
        T *out = grad_x + atom * layout.width_in;
        for (int part = 0; part < layout.n_scalars; ++part) {
            const kernels::GateScalars &s = layout.scalars[part];
            for (int64_t k = group.index(); k < s.size; k += Group::kWidth) {
                const Activated<T> a(in[s.start + k], s.activation, static_cast<T>(s.factor));
                out[s.start + k] = a.slope * grad[s.start + k];
            }
        }
        for (int part = 0; part < layout.n_blocks; ++part) {
            const kernels::GatedBlock &b = layout.blocks[part];
            for (int64_t k = group.index(); k < b.n_channels; k += Group::kWidth) {
                const Activated<T> a(in[b.gate + k], layout.activation,
                                     static_cast<T>(layout.factor));
                T sum = 0;
                for (int64_t m = 0; m < b.n_components; ++m) {
                    const int64_t at = m * b.n_channels + k;
                    sum += grad[b.out + at] * in[b.in + at];
                    out[b.in + at] = a.value * grad[b.out + at];
                }
                out[b.gate + k] = a.slope * sum;
            }
        }
    }
};

template <typename Registry>
void add_gates() {
    const auto add = []<typename T>(T) {
        Registry::template add<GateValues<T>>();
        Registry::template add<GateBackward<T>>();
    };
    add(float{});
    add(double{});
}

}  // namespace equicalc::groups
