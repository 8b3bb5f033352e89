// What operators ask of their arguments: kernels read without asking. Values of indices are looked
// at on CPUs only, since devices would have to wait for the answer.
#pragma once

#include <torch/types.h>

namespace equicalc {

inline constexpr int64_t kAny = -1;

// Error unless the tensor has this shape, with kAny where any length will do.
void check_shape(const torch::Tensor &tensor, at::IntArrayRef shape, const char *op,
                 const char *name);

// Error unless edge_index is int64 [2, n_edges] where the other tensor is, with senders below
// n_total. Receivers are looked at by row_starts.
void check_edges(const torch::Tensor &edge_index, int64_t n_edges, int64_t n_total,
                 const torch::Tensor &like, const char *op);

// Error unless species are int64 [n_atoms] where the other tensor is, below n_species.
void check_species(const torch::Tensor &species, int64_t n_atoms, int64_t n_species,
                   const torch::Tensor &like, const char *op);

// Error unless indices, which are int64, are of `least` to limit - 1.
void check_indices(const torch::Tensor &index, int64_t limit, const char *op, const char *name,
                   int64_t least = 0);

// l_max + 1 of features or harmonics with (l_max + 1)^2 components.
int64_t degrees(int64_t n_components);

// The same; error unless the number is a square.
int64_t check_components(int64_t n_components, const char *op);

}  // namespace equicalc
