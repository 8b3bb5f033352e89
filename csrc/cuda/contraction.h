// equicalc::symmetric_contraction for groups of lanes; what it computes is in
// contraction_kernels.h.
#pragma once

#include "operators/contraction_kernels.h"
#include "cuda/lanes.h"

namespace equicalc::groups {

// One channel of the features of a node, and the coefficients of its species.
template <typename T>
struct ContractedChannel {
    int64_t n_channels;
    const T *weight;
    T x[kernels::kMaxContracted];

    EQUICALC_BOTH ContractedChannel(const kernels::Contraction<T> &p, int64_t n, int64_t c)
        : n_channels(p.n_channels), weight(p.weight + p.species[n] * p.n_terms * p.n_channels + c) {
        const T *from = p.x + n * p.n_components * n_channels + c;
        for (int64_t m = 0; m < p.n_components; ++m) {
            x[m] = from[m * n_channels];
        }
    }
    // The coefficient of a term, or nothing where the tree only branches.
    EQUICALC_BOTH T coefficient(int64_t term) const {
        return term < 0 ? T(0) : weight[term * n_channels];
    }
};

// Of a node: [n, o, c].
template <typename T>
struct ContractionValues {
    static constexpr bool kWarp = true;
    kernels::Contraction<T> p;
    T *out;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t n, const Group &group) const {
        for (int64_t c = group.index(); c < p.n_channels; c += Group::kWidth) {
            const ContractedChannel<T> channel(p, n, c);
            for (int64_t o = 0; o < p.tree.n_outputs; ++o) {
                out[(n * p.tree.n_outputs + o) * p.n_channels + c] = output(channel, o);
            }
        }
    }

    EQUICALC_BOTH T output(const ContractedChannel<T> &channel, int64_t o) const {
        const kernels::ContractionTree &tree = p.tree;
        T value = 0;
        for (int64_t r = tree.root_start[o]; r < tree.root_start[o + 1]; ++r) {
            T root = channel.coefficient(tree.root_term[r]);
            for (int64_t b = tree.root_branch[r]; b < tree.root_branch[r + 1]; ++b) {
                T branch = channel.coefficient(tree.branch_term[b]);
                for (int64_t l = tree.branch_leaf[b]; l < tree.branch_leaf[b + 1]; ++l) {
                    branch += channel.coefficient(tree.leaf_term[l]) * channel.x[tree.leaf_in[l]];
                }
                root += branch * channel.x[tree.branch_in[b]];
            }
            value += root * channel.x[tree.root_in[r]];
        }
        return value;
    }
};

// Of a node: dL/dx.
template <typename T>
struct ContractionBackward {
    static constexpr bool kWarp = true;
    kernels::Contraction<T> p;
    const T *grad;
    T *grad_x;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t n, const Group &group) const {
        for (int64_t c = group.index(); c < p.n_channels; c += Group::kWidth) {
            const ContractedChannel<T> channel(p, n, c);
            T dx[kernels::kMaxContracted];
            for (int64_t m = 0; m < p.n_components; ++m) {
                dx[m] = 0;
            }
            for (int64_t o = 0; o < p.tree.n_outputs; ++o) {
                add_output(channel, o, grad[(n * p.tree.n_outputs + o) * p.n_channels + c], dx);
            }
            for (int64_t m = 0; m < p.n_components; ++m) {
                grad_x[(n * p.n_components + m) * p.n_channels + c] = dx[m];
            }
        }
    }

    EQUICALC_BOTH void add_output(const ContractedChannel<T> &channel, int64_t o, T g,
                                  T *dx) const {
        const kernels::ContractionTree &tree = p.tree;
        for (int64_t r = tree.root_start[o]; r < tree.root_start[o + 1]; ++r) {
            const T above_root = g * channel.x[tree.root_in[r]];
            T root = channel.coefficient(tree.root_term[r]);
            for (int64_t b = tree.root_branch[r]; b < tree.root_branch[r + 1]; ++b) {
                const T above = above_root * channel.x[tree.branch_in[b]];
                T branch = channel.coefficient(tree.branch_term[b]);
                for (int64_t l = tree.branch_leaf[b]; l < tree.branch_leaf[b + 1]; ++l) {
                    const T w = channel.coefficient(tree.leaf_term[l]);
                    branch += w * channel.x[tree.leaf_in[l]];
                    dx[tree.leaf_in[l]] += w * above;
                }
                root += branch * channel.x[tree.branch_in[b]];
                dx[tree.branch_in[b]] += branch * above_root;
            }
            dx[tree.root_in[r]] += root * g;
        }
    }
};

template <typename Registry>
void add_contractions() {
    const auto add = []<typename T>(T) {
        Registry::template add<ContractionValues<T>>();
        Registry::template add<ContractionBackward<T>>();
    };
    add(float{});
    add(double{});
}

}  // namespace equicalc::groups
