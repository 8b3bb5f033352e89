// equicalc::screened_repulsion: energies of pairs of nuclei and their derivatives by the distance,
// in double. The same source is for the CPU.
#pragma once

#include <cmath>

#include "cuda/lanes.h"

namespace equicalc::groups {

// A function of the distance with its derivatives.
struct Jet {
    double values[3];

    EQUICALC_BOTH Jet operator*(const Jet &other) const {
        const double *a = values, *b = other.values;
        return {
            {a[0] * b[0], a[1] * b[0] + a[0] * b[1], a[2] * b[0] + 2 * a[1] * b[1] + a[0] * b[2]}};
    }
};

// Half of k Z_i Z_j / r phi(r / a) u(r / R) for pairs of species, phi(x) = sum_n c_n exp(-d_n x), u
// the polynomial cutoff of order p (equicalc/nn/repulsion.py).
template <typename T>
struct Repulsion {
    int64_t n_species, n_terms;
    double order;
    const T *distance;
    const int64_t *species, *receivers, *senders;
    const double *pairs;  // [3, n_species, n_species]: k Z_i Z_j / 2, 1 / a, R
    const T *coefficients, *decays;

    EQUICALC_BOTH Jet of_edge(int64_t e) const {
        const int64_t n_pairs = n_species * n_species;
        const double *pair = pairs + species[receivers[e]] * n_species + species[senders[e]];
        const double r = distance[e], x = r / pair[2 * n_pairs];
        if (!(x < 1)) {
            return {{0, 0, 0}};
        }
        const double strength = pair[0] / r;
        const Jet coulomb{{strength, -strength / r, 2 * strength / (r * r)}};
        return coulomb * screening(r, pair[n_pairs]) * cutoff(x, pair[2 * n_pairs]);
    }

    EQUICALC_BOTH Jet screening(double r, double inverse_length) const {
        Jet sum{{0, 0, 0}};
        for (int64_t n = 0; n < n_terms; ++n) {
            const double rate = decays[n] * inverse_length;
            const double term = coefficients[n] * ::exp(-rate * r);
            sum.values[0] += term;
            sum.values[1] -= rate * term;
            sum.values[2] += rate * rate * term;
        }
        return sum;
    }

    EQUICALC_BOTH Jet cutoff(double x, double reach) const {
        const double p = order, rest = 1 - x, power = ::pow(x, p - 2);
        const double half = 0.5 * (p + 1) * (p + 2);
        return {{1 - power * x * x * (half - x * p * (p + 2 - x * 0.5 * (p + 1))),
                 -half * p * power * x * rest * rest / reach,
                 -half * p * power * rest * ((p - 1) * rest - 2 * x) / (reach * reach)}};
    }
};

// Of an atom: sum over the edges that it receives of a derivative, each times its weight.
template <typename T>
struct RepulsionSums {
    static constexpr bool kWarp = true;
    Repulsion<T> p;
    int derivative;
    const int64_t *start;
    const T *weights;  // [E]; null: one
    double *sums;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t atom, const Group &group) const {
        double sum = 0;
        for (int64_t e = start[atom] + group.index(); e < start[atom + 1]; e += Group::kWidth) {
            const double value = p.of_edge(e).values[derivative];
            sum += weights == nullptr ? value : value * weights[e];
        }
        store_sums<1>(group, &sum, 1, sums + atom);
    }
};

// Of an edge: a derivative times the weight of its receiver and, where there are any, its own.
template <typename T>
struct RepulsionEdges {
    static constexpr bool kWarp = false;
    Repulsion<T> p;
    int derivative;
    const double *by_receiver;
    const T *weights;  // [E] or null
    T *out;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &) const {
        const double value = by_receiver[p.receivers[e]] * p.of_edge(e).values[derivative];
        out[e] = static_cast<T>(weights == nullptr ? value : value * weights[e]);
    }
};

template <typename Registry>
void add_repulsions() {
    const auto add = []<typename T>(T) {
        Registry::template add<RepulsionSums<T>>();
        Registry::template add<RepulsionEdges<T>>();
    };
    add(float{});
    add(double{});
}

}  // namespace equicalc::groups
