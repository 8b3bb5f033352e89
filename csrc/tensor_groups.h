// What tensor_op.cpp and tensor_groups_op.cpp share.
#pragma once

#include "fused_ops.h"

namespace equicalc {

// Rows of the plan, one for each path. Offsets count numbers per atom in packed arrays.
enum PathColumn { kGroup, kInOffset, kChannels, kOutStart, kOutComponent, kOutOffset, kTableBlock };

// The Python module's description, see equicalc/nn/convolution_plan.py.
struct TensorPlan {
    const torch::Tensor &table, &couplings, &paths, &groups, &inputs;
    at::ArrayRef<double> segments;
};

// The operator by groups of lanes. Tensors are contiguous and checked.
torch::Tensor tensor_forward_groups(const torch::Tensor &x, const torch::Tensor &distance,
                                    const torch::Tensor &harmonics, const torch::Tensor &edge_index,
                                    int64_t n_local, int64_t width_out, const TensorPlan &plan);
// dL/dx, dL/ddistance, dL/dharmonics
std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> tensor_backward_groups(
    const torch::Tensor &grad, const torch::Tensor &x, const torch::Tensor &distance,
    const torch::Tensor &harmonics, const torch::Tensor &edge_index, const TensorPlan &plan);

}  // namespace equicalc
