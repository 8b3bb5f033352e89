// equicalc::radial_functions for groups of lanes; what they compute is in radial_kernels.h.
#pragma once

#include <cmath>

#include "operators/radial_kernels.h"
#include "cuda/lanes.h"
#include "cuda/shapes.h"

namespace equicalc::groups {

// Edges whose contributions to gradients of weights are one partial sum.
inline constexpr int64_t kRadialChunk = 256;

// What does not depend on weights: Bessel functions (by recurrence, in double) and the cutoff.
template <typename T, int N>
struct RadialInputs {
    T bessel[N], bessel_slopes[N];
    T cut, cut_slope;

    EQUICALC_BOTH RadialInputs(const kernels::RadialFunctions<T> &p, double r) {
        const double step = 3.14159265358979323846 / p.cutoff;
        const double sine = ::sin(step * r), cosine = ::cos(step * r);
        double s = sine, c = cosine;
        EQUICALC_UNROLL_ROOM
        for (int k = 0; k < N; ++k) {
            const double value = p.prefactor * s / r;
            bessel[k] = static_cast<T>(value);
            bessel_slopes[k] = static_cast<T>((p.prefactor * step * (k + 1) * c - value) / r);
            const double next = s * cosine + c * sine;
            c = c * cosine - s * sine;
            s = next;
        }
        const double x = r < p.cutoff ? r / p.cutoff : 1.0, x5 = x * x * x * x * x;
        cut = static_cast<T>(1 - x5 * x * (28 - x * (48 - x * 21)));
        cut_slope = static_cast<T>(-168 * x5 * (1 - x) * (1 - x) / p.cutoff);
    }
};

// One hidden neuron: input, its slope by r, silu and its first derivatives.
template <typename T, int N>
struct RadialNeuron {
    T slope, gate, active, gain;

    EQUICALC_BOTH RadialNeuron(const kernels::RadialFunctions<T> &p, const RadialInputs<T, N> &in,
                               int64_t k) {
        T input = p.b1[k];
        slope = 0;
        EQUICALC_UNROLL_ROOM
        for (int b = 0; b < N; ++b) {
            const T weight = b < p.n_bessel ? p.w1[k * p.n_bessel + b] : T(0);
            input += weight * in.bessel[b];
            slope += weight * in.bessel_slopes[b];
        }
        gate = T(1) / (T(1) + ::exp(-input));
        active = input * gate;
        gain = gate + active * (T(1) - gate);
    }
};

// Of an edge: values and slopes, both [E, n_radial]. N: room for Bessel and radial functions.
template <typename T, int N>
struct RadialValues {
    static constexpr bool kWarp = false;
    kernels::RadialFunctions<T> p;
    T *values, *slopes;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &) const {
        const RadialInputs<T, N> in(p, p.distance[e]);
        T out[N], out_slopes[N];
        EQUICALC_UNROLL_ROOM
        for (int o = 0; o < N; ++o) {
            out[o] = o < p.n_radial ? p.b2[o] : T(0);
            out_slopes[o] = 0;
        }
        for (int64_t k = 0; k < p.n_hidden; ++k) {
            const RadialNeuron<T, N> neuron(p, in, k);
            const T slope = neuron.gain * neuron.slope;
            EQUICALC_UNROLL_ROOM
            for (int o = 0; o < N; ++o) {
                const T weight = o < p.n_radial ? p.w2[o * p.n_hidden + k] : T(0);
                out[o] += weight * neuron.active;
                out_slopes[o] += weight * slope;
            }
        }
        EQUICALC_UNROLL_ROOM
        for (int o = 0; o < N; ++o) {
            if (o < p.n_radial) {
                values[e * p.n_radial + o] = out[o] * in.cut;
                slopes[e * p.n_radial + o] = out_slopes[o] * in.cut + out[o] * in.cut_slope;
            }
        }
    }
};

// Of a chunk of edges: gradients by all weights. Lanes own hidden neurons.
template <typename T, int N>
struct RadialWeights {
    static constexpr bool kWarp = true;
    kernels::RadialFunctions<T> p;
    int64_t n_edges;
    const T *grad_values, *grad_slopes;
    T *sums;  // [chunks, n_weights]

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t chunk, const Group &group) const {
        const int64_t first = chunk * kRadialChunk;
        const int64_t last = first + kRadialChunk < n_edges ? first + kRadialChunk : n_edges;
        T *out = sums + chunk * (p.n_hidden * (p.n_bessel + 1) + p.n_radial * (p.n_hidden + 1));
        T *b1 = out + p.n_hidden * p.n_bessel, *w2 = b1 + p.n_hidden;
        T *b2 = w2 + p.n_radial * p.n_hidden;
        for (int64_t k = group.index(); k < p.n_hidden; k += Group::kWidth) {
            T by_w1[N] = {}, by_w2[N] = {}, by_b1 = 0;
            for (int64_t e = first; e < last; ++e) {
                by_b1 += add_edge(e, k, by_w1, by_w2);
            }
            b1[k] = by_b1;
            EQUICALC_UNROLL_ROOM
            for (int n = 0; n < N; ++n) {
                if (n < p.n_bessel) {
                    out[k * p.n_bessel + n] = by_w1[n];
                }
                if (n < p.n_radial) {
                    w2[n * p.n_hidden + k] = by_w2[n];
                }
            }
        }
        for (int64_t o = group.index(); o < p.n_radial; o += Group::kWidth) {
            T sum = 0;
            for (int64_t e = first; e < last; ++e) {
                const RadialInputs<T, 1> in(p, p.distance[e]);
                sum += grad_values[e * p.n_radial + o] * in.cut +
                       grad_slopes[e * p.n_radial + o] * in.cut_slope;
            }
            b2[o] = sum;
        }
    }

    // Returns the gradient by the bias of neuron k.
    EQUICALC_BOTH T add_edge(int64_t e, int64_t k, T *by_w1, T *by_w2) const {
        const RadialInputs<T, N> in(p, p.distance[e]);
        const RadialNeuron<T, N> neuron(p, in, k);
        T by_active = 0, by_slope = 0;
        EQUICALC_UNROLL_ROOM
        for (int o = 0; o < N; ++o) {
            if (o < p.n_radial) {
                const T value = grad_values[e * p.n_radial + o];
                const T slope = grad_slopes[e * p.n_radial + o];
                const T out = value * in.cut + slope * in.cut_slope, out_slope = slope * in.cut;
                const T weight = p.w2[o * p.n_hidden + k];
                by_active += weight * out;
                by_slope += weight * out_slope;
                by_w2[o] += out * neuron.active + out_slope * neuron.gain * neuron.slope;
            }
        }
        // second derivative of silu, gate (1 - gate) (2 + input (1 - 2 gate))
        const T bend =
            (T(1) - neuron.gate) * (neuron.gain + neuron.gate - neuron.active * neuron.gate);
        const T by_input = by_active * neuron.gain + by_slope * neuron.slope * bend;
        by_slope *= neuron.gain;
        EQUICALC_UNROLL_ROOM
        for (int b = 0; b < N; ++b) {
            if (b < p.n_bessel) {
                by_w1[b] += by_input * in.bessel[b] + by_slope * in.bessel_slopes[b];
            }
        }
        return by_input;
    }
};

template <typename Registry>
void add_radial_functions() {
    const auto add = []<typename T>(T) {
        Registry::template add<RadialValues<T, kFewRadial>>();
        Registry::template add<RadialValues<T, kManyRadial>>();
        Registry::template add<RadialWeights<T, kFewRadial>>();
        Registry::template add<RadialWeights<T, kManyRadial>>();
    };
    add(float{});
    add(double{});
}

}  // namespace equicalc::groups
