// Chunks of atoms with a few hundred edges, and what the kernels of tensor_kernels.h need of these.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/spline.h"
#include "operators/tensor_kernels.h"

namespace equicalc::kernels {

// Boundaries of chunks: first atom of each, then the number of atoms.
std::vector<int64_t> chunk_atoms(const int64_t *start, int64_t n_atoms);

// Distances of edges, in the order of edge_index.
template <typename T>
struct EdgeInputs {
    const T *distance, *harmonics;
    int64_t n_harmonics;
    groups::SplineKnots knots;
};

// Arrays of one chunk, kept by each thread from call to call.
template <typename T>
class ChunkArrays {
  public:
    // Edges order[start[first] ...] of atoms [first, last); without an order, in turn. `other` is
    // indexed by edge.
    EdgeChunk<T> gather(const EdgeInputs<T> &inputs, const int64_t *start, const int64_t *order,
                        const int64_t *other, int64_t first, int64_t last);
    // Room for D, and for what the backward pass adds up.
    void prepare_rotations(EdgeChunk<T> &chunk, int64_t n_entries);
    void prepare_sums(EdgeChunk<T> &chunk, int64_t n_channels);
    // dL/dx of the atoms of the chunk, zero.
    T *zeros(int64_t size);

  private:
    std::vector<int64_t> start_;
    std::vector<int32_t> other_, row_;
    std::vector<T> weights_, slopes_, harmonics_, rotations_, radial_, sums_, zeros_;
};

}  // namespace equicalc::kernels
