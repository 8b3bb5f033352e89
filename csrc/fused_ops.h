// What the operators around the kernels share. Each operator is one file: equicalc::outer_sum,
// equicalc::radial_moments, equicalc::couple with first and second derivatives by everything, for
// training and evaluation; equicalc::scalar_convolution with first derivatives, for evaluation.
#pragma once

#include <ATen/Parallel.h>
#include <torch/library.h>
#include <torch/torch.h>

#include <utility>

namespace equicalc {

// Atoms that one task of a thread works on.
inline constexpr int64_t kGrain = 32;

#define EQUICALC_DISPATCH(type, name, ...) AT_DISPATCH_FLOATING_TYPES(type, name, __VA_ARGS__)

// Error unless the tensor is on the CPU and of the type of the other.
void check_like(const torch::Tensor &tensor, const torch::Tensor &like, const char *name);

// Error when a derivative of a derivative's derivative is asked for.
void refuse_third_derivative(const char *name);

// start[k] = number of edges whose key is below k, for ascending keys; [n_rows + 1].
torch::Tensor row_starts(const torch::Tensor &keys, int64_t n_rows);

// Edges by sender: row starts [n_senders + 1] and edges [E], ascending within a sender.
std::pair<torch::Tensor, torch::Tensor> transpose_edges(const torch::Tensor &senders,
                                                        int64_t n_senders);

}  // namespace equicalc
