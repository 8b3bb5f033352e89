// The operators of the mesh sum on a device, as functions; device_mesh_op.cpp says what they do.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace equicalc {

torch::Tensor mesh_sum(const torch::Tensor &positions, const torch::Tensor &charges,
                       const torch::Tensor &members, const torch::Tensor &windows,
                       const torch::Tensor &sigmas, at::ArrayRef<double> cell,
                       at::IntArrayRef points, int64_t order, at::ArrayRef<double> edge,
                       double largest, bool single);
torch::Tensor mesh_missing(const torch::Tensor &windows, const torch::Tensor &sigmas,
                           at::ArrayRef<double> cell, at::IntArrayRef points,
                           at::ArrayRef<double> edge);
torch::Tensor mesh_windows(at::IntArrayRef points, int64_t order);

}  // namespace equicalc
