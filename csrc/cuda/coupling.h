// equicalc::couple for groups of lanes; what it computes is in coupling_kernels.h.
#pragma once

#include "operators/convolution_kernels.h"
#include "operators/coupling_kernels.h"
#include "cuda/lanes.h"

namespace equicalc::groups {

using kernels::kMaxComponents;

// An item is a node and up to this many of its channels: with all of them, few nodes would keep few
// warps busy.
inline constexpr int64_t kChannelsOfItem = 32;

inline int64_t n_coupling_items(int64_t n_nodes, int64_t n_channels) {
    return n_nodes * ((n_channels + kChannelsOfItem - 1) / kChannelsOfItem);
}

struct CouplingItem {
    int64_t node, first, last;

    EQUICALC_BOTH CouplingItem(int64_t item, int64_t n_channels) {
        const int64_t blocks = (n_channels + kChannelsOfItem - 1) / kChannelsOfItem;
        node = item / blocks;
        first = item % blocks * kChannelsOfItem;
        last = first + kChannelsOfItem < n_channels ? first + kChannelsOfItem : n_channels;
    }
};

// One channel of the sums of a node, in memory of the lane.
template <typename T>
struct Components {
    T of[kMaxComponents];

    EQUICALC_BOTH explicit Components(int64_t n) {
        for (int64_t m = 0; m < n; ++m) {
            of[m] = 0;
        }
    }
    EQUICALC_BOTH void store(int64_t n, int64_t n_channels, T *out) const {
        for (int64_t m = 0; m < n; ++m) {
            out[m * n_channels] = of[m];
        }
    }
};

// sum over the terms of a row of coefficient a[left] b[right]; a and b point to the channel.
template <typename T>
EQUICALC_BOTH T row_sum(const kernels::Coupling<T> &p, int64_t row, const T *a, const T *b) {
    T value = 0;
    for (int64_t t = p.row_start[row]; t < p.row_start[row + 1]; ++t) {
        value += p.coefficient[t] * a[p.left[t] * p.n_channels] * b[p.right[t] * p.n_channels];
    }
    return value;
}

// da[left] += coefficient factor b[right] and db[right] += coefficient factor a[left].
template <typename T>
EQUICALC_BOTH void add_row_gradient(const kernels::Coupling<T> &p, int64_t row, T factor,
                                    const T *a, const T *b, T *da, T *db) {
    for (int64_t t = p.row_start[row]; t < p.row_start[row + 1]; ++t) {
        const T scaled = p.coefficient[t] * factor;
        da[p.left[t]] += scaled * b[p.right[t] * p.n_channels];
        db[p.right[t]] += scaled * a[p.left[t] * p.n_channels];
    }
}

// Of channels of a node: the product [n, m, c].
template <typename T>
struct CouplingValues {
    static constexpr bool kWarp = true;
    kernels::Coupling<T> p;
    T *out;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t item, const Group &group) const {
        const CouplingItem at(item, p.n_channels);
        const int64_t n = at.node, channels = p.n_channels, size = p.n_components * channels;
        const T *weight = p.weight + p.species[n] * p.n_paths * channels;
        for (int64_t c = at.first + group.index(); c < at.last; c += Group::kWidth) {
            const T *a = p.a + n * size + c, *b = p.b + n * size + c;
            Components<T> sum(p.n_components);
            for (int64_t row = 0; row < p.n_rows; ++row) {
                sum.of[p.row_out[row]] +=
                    row_sum(p, row, a, b) * weight[p.row_path[row] * channels + c];
            }
            sum.store(p.n_components, channels, out + n * size + c);
        }
    }
};

// Of channels of a node: dL/da, dL/db and, unless null, dL/dweight of the node.
template <typename T>
struct CouplingBackward {
    static constexpr bool kWarp = true;
    kernels::Coupling<T> p;
    const T *grad;
    kernels::CouplingGradients<T> to;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t item, const Group &group) const {
        const CouplingItem at(item, p.n_channels);
        const int64_t n = at.node, channels = p.n_channels, size = p.n_components * channels;
        const int64_t weights = p.n_paths * channels;
        const T *weight = p.weight + p.species[n] * weights;
        for (int64_t c = at.first + group.index(); c < at.last; c += Group::kWidth) {
            const T *a = p.a + n * size + c, *b = p.b + n * size + c;
            T *dw = to.weight == nullptr ? nullptr : to.weight + n * weights + c;
            for (int64_t path = 0; dw != nullptr && path < p.n_paths; ++path) {
                dw[path * channels] = 0;
            }
            Components<T> da(p.n_components), db(p.n_components);
            for (int64_t row = 0; row < p.n_rows; ++row) {
                const int64_t path = p.row_path[row] * channels;
                const T g = grad[n * size + p.row_out[row] * channels + c];
                add_row_gradient(p, row, g * weight[path + c], a, b, da.of, db.of);
                if (dw != nullptr) {
                    dw[path] += g * row_sum(p, row, a, b);
                }
            }
            da.store(p.n_components, channels, to.a + n * size + c);
            db.store(p.n_components, channels, to.b + n * size + c);
        }
    }
};

// Of channels of a node: derivatives of the gradients along tangents.
template <typename T>
struct CouplingSecond {
    static constexpr bool kWarp = true;
    kernels::Coupling<T> p;
    kernels::CouplingTangents<T> along;
    const T *grad;
    kernels::CouplingGradients<T> to;
    T *grad_grad;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t item, const Group &group) const {
        const CouplingItem at(item, p.n_channels);
        const int64_t n = at.node, channels = p.n_channels, size = p.n_components * channels;
        const int64_t weights = p.n_paths * channels;
        const T *weight = p.weight + p.species[n] * weights;
        for (int64_t c = at.first + group.index(); c < at.last; c += Group::kWidth) {
            const T *a = p.a + n * size + c, *b = p.b + n * size + c;
            const T *ta = along.a + n * size + c, *tb = along.b + n * size + c;
            const T *t_weight = along.weight == nullptr ? nullptr : along.weight + n * weights + c;
            T *dw = to.weight + n * weights + c;
            for (int64_t path = 0; path < p.n_paths; ++path) {
                dw[path * channels] = 0;
            }
            Components<T> da(p.n_components), db(p.n_components), dg(p.n_components);
            for (int64_t row = 0; row < p.n_rows; ++row) {
                const int64_t path = p.row_path[row] * channels, out = p.row_out[row];
                const T g = grad[n * size + out * channels + c], w = weight[path + c];
                const T change = row_sum(p, row, ta, b) + row_sum(p, row, a, tb);
                dw[path] += g * change;
                dg.of[out] += w * change;
                add_row_gradient(p, row, g * w, ta, tb, da.of, db.of);
                if (t_weight != nullptr) {
                    dg.of[out] += t_weight[path] * row_sum(p, row, a, b);
                    add_row_gradient(p, row, g * t_weight[path], a, b, da.of, db.of);
                }
            }
            da.store(p.n_components, channels, to.a + n * size + c);
            db.store(p.n_components, channels, to.b + n * size + c);
            dg.store(p.n_components, channels, grad_grad + n * size + c);
        }
    }
};

template <typename Registry>
void add_couplings() {
    const auto add = []<typename T>(T) {
        Registry::template add<CouplingValues<T>>();
        Registry::template add<CouplingBackward<T>>();
        Registry::template add<CouplingSecond<T>>();
    };
    add(float{});
    add(double{});
}

}  // namespace equicalc::groups
