// What tensor_op.cpp and tensor_groups_op.cpp share.
#pragma once

#include "cuda/spline.h"
#include "operators/fused_ops.h"

namespace equicalc {

// Rows of the plan, one for each path. Offsets count numbers per atom in packed arrays.
enum PathColumn { kGroup, kInOffset, kChannels, kOutStart, kOutComponent, kOutOffset, kTableBlock };

// The Python module's description, see equicalc/nn/convolution_plan.py.
struct TensorPlan {
    const torch::Tensor &table, &couplings, &paths, &groups, &inputs;
    at::ArrayRef<double> knots;
};

// The numbers of RadialTable.knots, four for each segment, then the stretch; files of earlier
// versions have none, and knots that are equally far from each other in r.
inline groups::SplineKnots spline_knots(at::ArrayRef<double> numbers) {
    const int64_t n = numbers.size() / 4, beyond = numbers.size() % 4;
    TORCH_CHECK(n >= 1 && n <= groups::kMaxSegments && beyond <= 1,
                "equicalc: knots of a radial table are four numbers for each segment, of at most ",
                groups::kMaxSegments, ", and one more, found ", numbers.size());
    groups::SplineKnots knots{};
    for (int64_t k = 0; k < n; ++k) {
        knots.segments[k] = {numbers[4 * k], numbers[4 * k + 1],
                             static_cast<int64_t>(numbers[4 * k + 2]),
                             static_cast<int64_t>(numbers[4 * k + 3])};
    }
    knots.n_segments = n;
    knots.stretch = beyond ? numbers.back() : 0.0;
    return knots;
}

// The operator by groups of lanes. Tensors are contiguous and checked.
torch::Tensor tensor_forward_groups(const torch::Tensor &x, const torch::Tensor &distance,
                                    const torch::Tensor &harmonics, const torch::Tensor &edge_index,
                                    int64_t n_local, int64_t width_out, const TensorPlan &plan);
// dL/dx, dL/ddistance, dL/dharmonics
std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> tensor_backward_groups(
    const torch::Tensor &grad, const torch::Tensor &x, const torch::Tensor &distance,
    const torch::Tensor &harmonics, const torch::Tensor &edge_index, const TensorPlan &plan);

}  // namespace equicalc
