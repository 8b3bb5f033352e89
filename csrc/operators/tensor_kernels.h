// The convolution of networks with irregular multiplicities, one output per path,
//   out[i, p, m3, u] = sum over edges e of i: R_p[r_e, u] sum_m2 D[e, m2, m3] x[sender, m2, u],
//   D[e, m2, m3] = sum_m1 C[m1, m2, m3] Y[e, m1],
// with the radial functions R as cubic splines (equicalc/nn/radial_table.py). Nothing per edge and
// channel is in memory. Work goes over chunks of atoms with a few hundred edges: D of one coupling
// for all edges of the chunk, then one block of channels of one path after the other, each with all
// the atoms, so that its part of the table stays in the first-level cache.
#pragma once

#include <cstdint>

namespace equicalc::kernels {

// Channels in a block of the table: what equicalc.nn.radial_table.LANES says.
inline constexpr int64_t kBlock = 16;

// A coupling of degrees: C[m1, m2 * (2 l3 + 1) + m3], rows of `stride`, padded with zeros to
// multiples of kBlock. D has n_entries = (2 l2 + 1) (2 l3 + 1) for each edge; one when l1 = 0.
template <typename T>
struct TensorCoupling {
    int l1, l2, l3;
    int64_t n_entries, stride;
    const T *values;
};

// Features of blocks of kBlock channels, zeros behind the last channel: [.., components, kBlock].
template <typename T>
struct Packed {
    T *data;
    int64_t block, atom;  // numbers from one block, or atom, to the next
};

template <typename T>
struct TensorPath {
    int64_t n_channels;
    Packed<const T> table;  // [blocks, rows, kBlock]: rows are its atoms
    Packed<const T> x;      // of all senders
    T *out;                 // forward: messages [receivers, .., components, .., channels]
    int64_t out_atom, out_component;
    Packed<const T> grad;  // backward: dL/dout of all receivers
    Packed<T> grad_x;      // backward: dL/dx of the senders of the chunk, added to
};

// Edges of the atoms of a chunk; edges are numbered within the chunk.
template <typename T>
struct EdgeChunk {
    int64_t n_atoms, first_atom;
    const int64_t *start;  // [n_atoms + 1]
    const int32_t *other;  // [edges], the atom at the other end
    const int32_t *row;    // [edges], first row of the table
    const T *weights;      // [edges, 4], of the four rows
    const T *slopes;       // [edges, 4], their derivatives by the distance
    const T *harmonics;    // [edges, n_harmonics]
    int64_t n_harmonics;
    T *rotations;  // [edges, n_entries of the coupling] and room for kBlock more, D
    T *radial;     // backward: [channels of the widest path], R of one edge
    T *sums;       // backward: [edges, 1 + n_harmonics, lanes], dL/dr and dL/dY by lane
};

#define EQUICALC_DECLARE(T)                                                                       \
    /* D of all edges */                                                                          \
    void tensor_rotations(const TensorCoupling<T> &, const EdgeChunk<T> &);                       \
    /* messages of the receivers of a chunk */                                                    \
    void tensor_forward(const TensorCoupling<T> &, const TensorPath<T> &, const EdgeChunk<T> &);  \
    /* adds dL/dx of the senders of a chunk, and lane-wise dL/dr and dL/dY of their edges */      \
    void tensor_backward(const TensorCoupling<T> &, const TensorPath<T> &, const EdgeChunk<T> &); \
    /* sums of n rows of lanes, in place: the first n numbers of `sums` */                        \
    void tensor_sum_lanes(T *sums, int64_t n);

EQUICALC_DECLARE(float)
EQUICALC_DECLARE(double)

#undef EQUICALC_DECLARE

}  // namespace equicalc::kernels
