// equicalc::tensor_convolution on devices: one launch for each path, see cuda/tensor.h.
#include <vector>

#include "cuda/tensor.h"
#include "operators/tensor_groups.h"

namespace equicalc {
namespace {

using groups::PathInputs;
using torch::Tensor;

// Distances as weights of four rows of the tables.
struct Splines {
    Tensor rows, weights, slopes;

    Splines(const Tensor &distance, at::ArrayRef<double> numbers) {
        const int64_t n_edges = distance.size(0);
        rows = torch::empty({n_edges}, distance.options().dtype(torch::kInt32));
        weights = torch::empty({n_edges, 4}, distance.options());
        slopes = torch::empty_like(weights);
        EQUICALC_DISPATCH(distance.scalar_type(), "spline_weights", [&] {
            groups::EdgeSplines<scalar_t> splines{};
            splines.knots = spline_knots(numbers);
            splines.distance = distance.data_ptr<scalar_t>();
            splines.row = rows.data_ptr<int32_t>();
            splines.weights = weights.data_ptr<scalar_t>();
            splines.slopes = slopes.data_ptr<scalar_t>();
            run_groups(distance, splines, n_edges);
        });
    }
};

// The Python module's description of paths, on the CPU; see tensor_op.cpp.
struct HostPlan {
    Tensor paths, groups, inputs;

    explicit HostPlan(const TensorPlan &plan)
        : paths(on_host(plan.paths)), groups(on_host(plan.groups)), inputs(on_host(plan.inputs)) {}

    int64_t path(int64_t p, PathColumn column) const {
        return paths.data_ptr<int64_t>()[p * paths.size(1) + column];
    }
    int64_t degree(int64_t p, int64_t which) const {
        return groups.data_ptr<int64_t>()[path(p, kGroup) * 4 + which];
    }
    int64_t first_coefficient(int64_t p) const { return degree(p, 3); }
    // First feature of the input block of a path.
    int64_t in_start(int64_t p) const {
        const int64_t *row = inputs.data_ptr<int64_t>();
        while (row[3] != path(p, kInOffset)) {
            row += inputs.size(1);
        }
        return row[0];
    }
};

template <typename T>
PathInputs<T> path_inputs(const HostPlan &host, const TensorPlan &plan, int64_t p, const Tensor &x,
                          const Splines &splines, const Tensor &harmonics, int64_t width_out) {
    PathInputs<T> inputs{};
    const int64_t l1 = host.degree(p, 0), l2 = host.degree(p, 1), l3 = host.degree(p, 2);
    const int64_t square = (2 * l2 + 1) * (2 * l3 + 1);
    inputs.coupling = {static_cast<int>(l1),
                       static_cast<int>(l2),
                       static_cast<int>(l3),
                       square,
                       (square + kernels::kBlock - 1) / kernels::kBlock * kernels::kBlock,
                       plan.couplings.data_ptr<T>() + host.first_coefficient(p)};
    inputs.n_channels = host.path(p, kChannels);
    inputs.table = plan.table.data_ptr<T>() + host.path(p, kTableBlock) * plan.table.stride(0);
    inputs.table_rows = plan.table.size(1);
    inputs.x = x.data_ptr<T>() + host.in_start(p);
    inputs.width_in = x.size(1);
    inputs.width_out = width_out;
    inputs.out_component = host.path(p, kOutComponent);
    inputs.row = splines.rows.data_ptr<int32_t>();
    inputs.weights = splines.weights.data_ptr<T>();
    inputs.slopes = splines.slopes.data_ptr<T>();
    inputs.harmonics = harmonics.data_ptr<T>();
    inputs.n_harmonics = harmonics.size(1);
    return inputs;
}

// Calls body(L1, A, B) with the shape of a path as constants.
template <typename T, typename Body>
void with_triple(const PathInputs<T> &inputs, const Body &body) {
    groups::for_triples([&](auto l1, auto l2, auto l3) {
        const auto &c = inputs.coupling;
        if (c.l1 == l1 && c.l2 == l2 && c.l3 == l3) {
            body(l1, std::integral_constant<int, 2 * l2 + 1>{},
                 std::integral_constant<int, 2 * l3 + 1>{});
        }
    });
}

}  // namespace

Tensor tensor_forward_groups(const Tensor &x, const Tensor &distance, const Tensor &harmonics,
                             const Tensor &edge_index, int64_t n_local, int64_t width_out,
                             const TensorPlan &plan) {
    const HostPlan host(plan);
    const Tensor receivers = edge_index.select(0, 0).contiguous();
    const Tensor senders = edge_index.select(0, 1).contiguous();
    const Tensor starts = row_starts(receivers, n_local);
    transpose_edges(senders, x.size(0));  // checks them, and is kept for the gradient
    const Splines splines(distance, plan.knots);
    Tensor out = torch::empty({n_local, width_out}, x.options());
    const groups::Edges edges{starts.data_ptr<int64_t>(), receivers.data_ptr<int64_t>(),
                              senders.data_ptr<int64_t>()};
    EQUICALC_DISPATCH(x.scalar_type(), "tensor_convolution", [&] {
        for (int64_t p = 0; p < host.paths.size(0); ++p) {
            const auto inputs =
                path_inputs<scalar_t>(host, plan, p, x, splines, harmonics, width_out);
            scalar_t *to = out.data_ptr<scalar_t>() + host.path(p, kOutStart);
            with_triple(inputs, [&](auto l1, auto a, auto b) {
                run_groups(x, groups::TensorValues<scalar_t, l1, a, b>{inputs, edges, to}, n_local);
            });
        }
    });
    return out;
}

std::tuple<Tensor, Tensor, Tensor> tensor_backward_groups(const Tensor &grad, const Tensor &x,
                                                          const Tensor &distance,
                                                          const Tensor &harmonics,
                                                          const Tensor &edge_index,
                                                          const TensorPlan &plan) {
    const HostPlan host(plan);
    const Tensor receivers = edge_index.select(0, 0).contiguous();
    const auto transposed = transpose_edges(edge_index.select(0, 1).contiguous(), x.size(0));
    const Splines splines(distance, plan.knots);
    Tensor dx = torch::zeros_like(x), dr = torch::zeros_like(distance);
    Tensor dy = torch::zeros_like(harmonics);
    const kernels::SenderRows rows{transposed.first.data_ptr<int64_t>(),
                                   transposed.second.data_ptr<int64_t>(),
                                   receivers.data_ptr<int64_t>()};
    EQUICALC_DISPATCH(x.scalar_type(), "tensor_convolution_backward", [&] {
        for (int64_t p = 0; p < host.paths.size(0); ++p) {
            const auto inputs =
                path_inputs<scalar_t>(host, plan, p, x, splines, harmonics, grad.size(1));
            const scalar_t *from = grad.data_ptr<scalar_t>() + host.path(p, kOutStart);
            with_triple(inputs, [&](auto l1, auto a, auto b) {
                run_groups(x,
                           groups::TensorBackward<scalar_t, l1, a, b>{
                               inputs, rows, from, dx.data_ptr<scalar_t>() + host.in_start(p),
                               dr.data_ptr<scalar_t>(), dy.data_ptr<scalar_t>()},
                           x.size(0));
            });
        }
    });
    return {dx, dr, dy};
}

}  // namespace equicalc
