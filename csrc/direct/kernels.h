// Kernels of direct evaluation (direct/network.h): plain loops over tiles of atoms for one thread,
// compiled once for each kind of processor and chosen at run time.
//
// Channels are padded with zeros to blocks of 64 bytes and radial functions to eights, so that no
// loop has a remainder. M = (l_max + 1)^2.
#pragma once

#include <cstdint>

#include "direct/fixed_couplings.h"

namespace equicalc::direct {

template <typename T>
inline constexpr int64_t kBlock = 64 / int64_t(sizeof(T));
inline constexpr int64_t kRadialBlock = 8;
// Edges whose radial weights are held at a time.
inline constexpr int64_t kEdgeChunk = 12;

// A matrix [k, n], n a multiple of kBlock, cut into panels of kBlock columns: [n / kBlock, k,
// kBlock].
template <typename T>
struct Matrix {
    const T *panels = nullptr;
    int64_t k = 0, n = 0;
};

// What the loops need to know of an edge, as a row of numbers: the harmonics Y, x, y, z of the
// direction, 1 / r; then, after a number that is a multiple of kGroup, the radial functions B and
// their slopes dB/dr.
struct EdgeLayout {
    int64_t l_max = 0, n_radial = 0;  // padded

    // Rows are read and written in whole registers, of which the widest hold so many numbers.
    static constexpr int64_t kGroup = 16;

    int64_t n_harmonics() const { return (l_max + 1) * (l_max + 1); }
    int64_t unit() const { return n_harmonics(); }
    int64_t inverse() const { return n_harmonics() + 3; }
    int64_t radial() const { return radial_after(n_harmonics()); }
    static constexpr int64_t radial_after(int64_t n_harmonics) { return grouped(n_harmonics + 4); }
    int64_t slopes() const { return radial() + n_radial; }
    int64_t width() const { return radial() + 2 * n_radial; }
    // Gradients of an edge: dE/dY, then dE/dr.
    int64_t by_distance() const { return n_harmonics(); }
    int64_t gradient_width() const { return grouped(n_harmonics() + 1); }

  private:
    static constexpr int64_t grouped(int64_t count) {
        return (count + kGroup - 1) / kGroup * kGroup;
    }
};

// Radial functions as polynomials of degree five between equidistant knots: coefficients
// [n_intervals, 6, n_radial], highest power last.
template <typename T>
struct RadialTable {
    const T *coefficients = nullptr;
    int64_t n_intervals = 0;
    double per_interval = 0.0;  // intervals per angstrom
};

// Edge vectors, double [E, 3]; edge k of a tile is edges[k], or first + k without a list.
struct EdgeList {
    const double *vectors;
    const int32_t *edges;
    int64_t first, count;

    int64_t operator[](int64_t k) const { return edges ? edges[k] : first + k; }
};

// out[target, c] = sum over the rows of a target: weight[path, c] sum over terms: coefficient
// left[.., c] right[.., c]. Rows of a target follow each other.
template <typename T>
struct Terms {
    int64_t n_rows = 0;
    const int32_t *start = nullptr, *target = nullptr, *path = nullptr;  // [n_rows + 1], [n_rows]
    const int32_t *left = nullptr, *right = nullptr;                     // [terms]
    const T *coefficient = nullptr;
};

// Features of one atom: rows of channels, `stride` numbers apart.
template <typename T>
struct Features {
    T *data;
    int64_t stride;
};

// Sums of B Y over the neighbours of an atom, kept apart by species (embedding null: one block of
// radial functions for each species) or in n_kinds learned mixtures of species.
template <typename T>
struct SpeciesSum {
    EdgeLayout layout;
    int64_t width = 0;  // numbers in a row of the sum
    int64_t n_kinds = 0;
    const T *embedding = nullptr;  // [n_species, n_kinds]
};

// The scalar convolution of equicalc/nn/convolution.py; weights [n_radial, (l_max + 1) channels]
// with 1 / sqrt(2 l + 1) in them.
template <typename T>
struct ScalarConvolution {
    EdgeLayout layout;
    int64_t channels = 0;  // padded
    Matrix<T> weights;

    // Numbers of working memory: weights and slopes of a chunk of edges, factors of two.
    int64_t scratch() const { return (2 * kEdgeChunk + 2) * weights.n; }
};

// The full convolution of equicalc/nn/convolution.py: D[entry] = sum over its terms of coefficient
// Y[harmonic], message[out] += weight[path] sum over the entries of a row of D x[in]. Weights
// [n_radial, n_paths channels].
template <typename T>
struct FullConvolution {
    EdgeLayout layout;
    int64_t channels = 0, n_rows = 0, n_entries = 0, n_paths = 0;
    const int32_t *row_start = nullptr, *row_path = nullptr, *row_out = nullptr;
    const int32_t *entry_start = nullptr, *entry_in = nullptr, *entry_row = nullptr;
    const int32_t *term_harmonic = nullptr;
    const T *coefficient = nullptr;
    const int32_t *in_start = nullptr, *in_entry = nullptr;  // entries of each m2
    Matrix<T> weights;

    // Numbers of working memory: weights and slopes of a chunk, rows, entries and their gradients.
    int64_t scratch() const {
        return kEdgeChunk * n_paths * channels + n_rows * channels + 2 * (n_entries + 16);
    }
};

// What each atom brings to the charge that flows along its edges (equicalc/nn/charges.py): eight
// potentials, and eight vectors as rows x, y, z.
template <typename T>
inline constexpr int64_t kTransferRow = kBlock<T> < 8 ? 8 : kBlock<T>;
inline constexpr int64_t kTransferChannels = 8;

template <typename T>
struct Kernels {
    // out[row] = in[row] . matrix, added to what is there with `add`.
    void (*multiply)(const Matrix<T> &, const T *const *in, T *const *out, int64_t n_rows,
                     bool add);
    void (*edge_records)(const EdgeLayout &, const RadialTable<T> &, const EdgeList &, T *records);
    // dE/d(edge vectors) from gradients [count, gradient_width]; stored, or added with `add`.
    void (*edge_gradients)(const EdgeLayout &, const EdgeList &, const T *records,
                           const T *gradients, double *by_vector, bool add);
    // sums [M, width] of one atom with `count` edges.
    void (*species_sum)(const SpeciesSum<T> &, const T *records, const int64_t *sender_species,
                        int64_t count, T *sums);
    void (*species_sum_gradient)(const SpeciesSum<T> &, const T *records,
                                 const int64_t *sender_species, int64_t count, const T *by_sums,
                                 T *gradients);
    // Weights of one are a null pointer. Components that have no row are left as they are.
    void (*couple)(const Terms<T> &, int64_t channels, const T *weight, Features<const T> left,
                   Features<const T> right, Features<T> out, bool add);
    // The same of up to nine components by constant tables; a square takes both factors from the
    // left. Weights [n_paths, channels].
    void (*couple_fixed)(FixedCoupling, int64_t channels, const T *weight, Features<const T> left,
                         Features<const T> right, Features<T> out);
    // Added to gradients by both factors, of a square to that by the left one.
    void (*couple_fixed_gradient)(FixedCoupling, int64_t channels, const T *weight,
                                  Features<const T> grad, Features<const T> left,
                                  Features<const T> right, Features<T> by_left,
                                  Features<T> by_right);
    // rows[row, c] = grad[target, c] weight[path, c]
    void (*weigh_rows)(const Terms<T> &, int64_t channels, const T *weight, Features<const T> grad,
                       T *rows);
    // Convolutions. Messages of receivers, (l_max + 1) channels each; the edge k comes from x +
    // offset[k] and goes to messages + target[k].
    void (*scalar_messages)(const ScalarConvolution<T> &, const T *records, int64_t count,
                            const T *x, const int64_t *offset, T *messages, const int64_t *target,
                            T *scratch);
    // The same edges in reverse: the gradient g of messages is at by_messages + target[k]; added to
    // by_x + offset[k], and gradients of edges.
    void (*scalar_messages_gradient)(const ScalarConvolution<T> &, const T *records, int64_t count,
                                     const T *x, T *by_x, const int64_t *offset,
                                     const T *by_messages, const int64_t *target, T *gradients,
                                     T *scratch);
    void (*full_messages)(const FullConvolution<T> &, const T *records, int64_t count, const T *x,
                          const int64_t *offset, T *messages, const int64_t *target, T *scratch);
    void (*full_messages_gradient)(const FullConvolution<T> &, const T *records, int64_t count,
                                   const T *x, T *by_x, const int64_t *offset, const T *by_messages,
                                   const int64_t *target, T *gradients, T *scratch);
    // Charge that flows to one receiver, added to its variables [q~, w, mu]; ends: rows as above,
    // that of the edge k at ends + offset[k].
    void (*transfer)(const EdgeLayout &, const EdgeList &, const T *records, const T *own,
                     const T *ends, const int64_t *offset, double *variables);
    // From gradients by those variables to those by the ends of the receiver, stored, and by edge
    // vectors, stored or added with `add`.
    void (*transfer_gradient)(const EdgeLayout &, const EdgeList &, const T *records, const T *own,
                              const T *ends, const int64_t *offset, const double *by_variables,
                              T *by_own, double *by_vector, bool add);
    // The same by the ends of one sender, added; variables of receivers at by_variables +
    // target[k].
    void (*transfer_gradient_on_sender)(const EdgeLayout &, const EdgeList &, const T *records,
                                        const double *by_variables, const int64_t *target,
                                        T *by_other);
    // values become silu(values), gains its derivative; count a multiple of kBlock.
    void (*silu)(T *values, T *gains, int64_t count);
    void (*scale)(T *values, const T *factors, int64_t count);  // values *= factors
};

// Those of instructions().
template <typename T>
const Kernels<T> &kernels();

namespace portable {
template <typename T>
Kernels<T> make();
}
namespace avx2 {
template <typename T>
Kernels<T> make();
}
namespace avx512 {
template <typename T>
Kernels<T> make();
}

}  // namespace equicalc::direct
