// Products of node features, channel by channel, as lists of non-zero coupling terms: values and
// the first and second derivatives. Loops over nodes [begin, end) are for one thread.
#pragma once

#include <cstdint>

namespace equicalc::kernels {

// out[n, m3(row), c] += weight[species n, path(row), c] *
//     sum over terms of row: coefficient * a[n, left, c] * b[n, right, c]
template <typename T>
struct Coupling {
    int64_t n_components, n_channels, n_rows, n_paths;
    const int64_t *row_start;           // [n_rows + 1], first term of each row
    const int64_t *row_path, *row_out;  // [n_rows]
    const int64_t *left, *right;        // [terms]
    const T *coefficient;               // [terms]
    const T *a, *b, *weight;            // [n, M, C] twice, [n_species, n_paths, C]
    const int64_t *species;             // [n]
};

// Directions along which the gradients (da, db, dweight) are differentiated; weight may be null.
template <typename T>
struct CouplingTangents {
    const T *a, *b, *weight;
};

// Derivatives of a coupling. Weights are those of the node, [n, n_paths, C]; grad_weight may be
// null.
template <typename T>
struct CouplingGradients {
    T *a, *b, *weight;
};

#define EQUICALC_DECLARE(T)                                                                    \
    void couple(const Coupling<T> &, int64_t begin, int64_t end, T *out);                      \
    /* from grad = dL/dout */                                                                  \
    void couple_backward(const Coupling<T> &, int64_t begin, int64_t end, const T *grad,       \
                         const CouplingGradients<T> &);                                        \
    /* L = sum of tangents times the gradients above: dL/da, dL/db, dL/dweight and dL/dgrad */ \
    void couple_second(const Coupling<T> &, const CouplingTangents<T> &, int64_t begin,        \
                       int64_t end, const T *grad, const CouplingGradients<T> &, T *grad_grad);

EQUICALC_DECLARE(float)
EQUICALC_DECLARE(double)

#undef EQUICALC_DECLARE

}  // namespace equicalc::kernels
