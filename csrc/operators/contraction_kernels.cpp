#include "operators/contraction_kernels.h"

#include "vectors/targets.h"

namespace equicalc::kernels {
namespace {

using simd::load;
using simd::store;

// The coefficient of a term, or nothing where the tree only branches.
template <typename S, typename T>
EQUICALC_INLINE typename S::type coefficient(const T *weight, int64_t term, int64_t n_channels) {
    if (term < 0) {
        return typename S::type{};
    }
    return load<S>(weight + term * n_channels);
}

// The components of one block of channels, side by side.
template <typename S, typename T>
EQUICALC_INLINE void gather(const T *x, int64_t n_components, int64_t n_channels,
                            typename S::type *to) {
    for (int64_t m = 0; m < n_components; ++m) {
        to[m] = load<S>(x + m * n_channels);
    }
}

template <typename Target, typename T>
EQUICALC_INLINE void contract_body(const Contraction<T> &p, int64_t begin, int64_t end, T *out) {
    const ContractionTree &tree = p.tree;
    const int64_t channels = p.n_channels, size = p.n_components * channels;
    simd::for_channels<Target, T>(channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
        using S = decltype(s);
        using V = typename S::type;
        for (int64_t n = begin; n < end; ++n) {
            V x[kMaxContracted];
            gather<S>(p.x + n * size + c, p.n_components, channels, x);
            const T *weight = p.weight + p.species[n] * p.n_terms * channels + c;
            for (int64_t o = 0; o < tree.n_outputs; ++o) {
                V value{};
                for (int64_t r = tree.root_start[o]; r < tree.root_start[o + 1]; ++r) {
                    V root = coefficient<S>(weight, tree.root_term[r], channels);
                    for (int64_t b = tree.root_branch[r]; b < tree.root_branch[r + 1]; ++b) {
                        V branch = coefficient<S>(weight, tree.branch_term[b], channels);
                        for (int64_t l = tree.branch_leaf[b]; l < tree.branch_leaf[b + 1]; ++l) {
                            branch +=
                                load<S>(weight + tree.leaf_term[l] * channels) * x[tree.leaf_in[l]];
                        }
                        root += branch * x[tree.branch_in[b]];
                    }
                    value += root * x[tree.root_in[r]];
                }
                store<S>(out + (n * tree.n_outputs + o) * channels + c, value);
            }
        }
    });
}

template <typename Target, typename T>
EQUICALC_INLINE void contract_backward_body(const Contraction<T> &p, int64_t begin, int64_t end,
                                            const T *grad, T *grad_x) {
    const ContractionTree &tree = p.tree;
    const int64_t channels = p.n_channels, size = p.n_components * channels;
    simd::for_channels<Target, T>(channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
        using S = decltype(s);
        using V = typename S::type;
        for (int64_t n = begin; n < end; ++n) {
            V x[kMaxContracted], dx[kMaxContracted] = {};
            gather<S>(p.x + n * size + c, p.n_components, channels, x);
            const T *weight = p.weight + p.species[n] * p.n_terms * channels + c;
            for (int64_t o = 0; o < tree.n_outputs; ++o) {
                const V g = load<S>(grad + (n * tree.n_outputs + o) * channels + c);
                for (int64_t r = tree.root_start[o]; r < tree.root_start[o + 1]; ++r) {
                    const V above_root = g * x[tree.root_in[r]];
                    V root = coefficient<S>(weight, tree.root_term[r], channels);
                    for (int64_t b = tree.root_branch[r]; b < tree.root_branch[r + 1]; ++b) {
                        const V above = above_root * x[tree.branch_in[b]];
                        V branch = coefficient<S>(weight, tree.branch_term[b], channels);
                        for (int64_t l = tree.branch_leaf[b]; l < tree.branch_leaf[b + 1]; ++l) {
                            const V w = load<S>(weight + tree.leaf_term[l] * channels);
                            branch += w * x[tree.leaf_in[l]];
                            dx[tree.leaf_in[l]] += w * above;
                        }
                        root += branch * x[tree.branch_in[b]];
                        dx[tree.branch_in[b]] += branch * above_root;
                    }
                    dx[tree.root_in[r]] += root * g;
                }
            }
            for (int64_t m = 0; m < p.n_components; ++m) {
                store<S>(grad_x + n * size + m * channels + c, dx[m]);
            }
        }
    });
}

// The loops as what simd::run takes.
EQUICALC_BODY(ContractLoop, contract_body)
EQUICALC_BODY(ContractBackwardLoop, contract_backward_body)

}  // namespace

#define EQUICALC_INSTANTIATE(T)                                                                \
    void contract(const Contraction<T> &p, int64_t begin, int64_t end, T *out) {               \
        simd::run<ContractLoop>(p, begin, end, out);                                           \
    }                                                                                          \
    void contract_backward(const Contraction<T> &p, int64_t begin, int64_t end, const T *grad, \
                           T *grad_x) {                                                        \
        simd::run<ContractBackwardLoop>(p, begin, end, grad, grad_x);                          \
    }

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::kernels
