// The symmetric contraction: for every node, channel and output component a polynomial in the
// node's components of that channel, with coefficients of the node's species and the channel,
//   out[n, o, c] = sum over terms of o: W[species n, term, c] x[n, i, c] (x[n, j, c] (x[n, k, c])).
// Terms form a tree of depth three, so that x_i (w + sum_j x_j (w + sum_k w x_k)) costs one
// multiplication per term. Loops over nodes [begin, end) are for one thread.
#pragma once

#include <cstdint>

namespace equicalc::kernels {

inline constexpr int64_t kMaxContracted = 16;  // components, degrees up to three

// Constants of a network, see equicalc/nn/contraction.py. A term of -1 stands for no coefficient.
struct ContractionTree {
    int64_t n_outputs;
    const int64_t *root_start;                             // [n_outputs + 1]
    const int64_t *root_in, *root_term, *root_branch;      // [roots], [roots], [roots + 1]
    const int64_t *branch_in, *branch_term, *branch_leaf;  // likewise
    const int64_t *leaf_in, *leaf_term;                    // [leaves]
};

template <typename T>
struct Contraction {
    ContractionTree tree;
    int64_t n_components, n_channels, n_terms;
    const T *x, *weight;     // [n, M, C], [n_species, n_terms, C]
    const int64_t *species;  // [n]
};

#define EQUICALC_DECLARE(T)                                                                   \
    void contract(const Contraction<T> &, int64_t begin, int64_t end, T *out);                \
    /* dL/dx from grad = dL/dout */                                                           \
    void contract_backward(const Contraction<T> &, int64_t begin, int64_t end, const T *grad, \
                           T *grad_x);

EQUICALC_DECLARE(float)
EQUICALC_DECLARE(double)

#undef EQUICALC_DECLARE

}  // namespace equicalc::kernels
