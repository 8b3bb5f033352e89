#include "model/device_steps.h"

#include <tuple>
#include <utility>

#include "cuda/launch.h"
#include "operators/fused_ops.h"
#include "model/network.h"
#include "model/recorded_steps.h"

namespace equicalc {

using torch::Tensor;

DeviceSteps::DeviceSteps(std::shared_ptr<Model> model)
    : evaluator_(model), device_(model->options().device), cutoff_(model->info().cutoff) {
    if (!run_on(device_)) {
        throw Error("equicalc: DeviceSteps needs a model on a device with kernels, found " +
                    device_.str() + "; use Evaluator there");
    }
    if (Recorder::record != nullptr && !evaluator_.is_direct()) {
        recorded_ = std::make_unique<RecordedSteps>(
            [model](const Tensor &species, const Tensor &edge_vectors, const Tensor &edge_index,
                    int64_t n_local) {
                return scripted_outputs(*model, species, edge_vectors, edge_index, n_local);
            },
            model->options(), cutoff_);
    }
}

DeviceSteps::~DeviceSteps() = default;

bool DeviceSteps::run_on(torch::Device device) {
    return groups::Available::on_host || (groups::Available::on_cuda && device.is_cuda());
}

void DeviceSteps::set_pairs(const Pairs &pairs) {
    const auto there = [this](const Tensor &tensor, torch::ScalarType type) {
        return tensor.defined() ? tensor.to(device_, type).contiguous() : tensor;
    };
    pairs_ = {there(pairs.species, torch::kInt64), there(pairs.rows, torch::kInt64),
              there(pairs.points, torch::kInt64), there(pairs.shifts, torch::kInt32),
              pairs.n_local};
    if (recorded_) {
        recorded_->set_pairs(pairs_);
    }
}

Graph DeviceSteps::edges_at(const Positions &positions) const {
    static const auto edges_within = operator_of<std::tuple<Tensor, Tensor>(
        const Tensor &, const Tensor &, const Tensor &, const Tensor &, const Tensor &, double)>(
        "equicalc::edges_within");
    const Tensor points = positions.points.to(device_);
    const Tensor cell = positions.cell.defined() ? positions.cell.to(device_)
                                                 : torch::zeros({3, 3}, points.options());
    const Tensor shifts =
        pairs_.shifts.defined()
            ? pairs_.shifts
            : torch::zeros({pairs_.rows.size(1), 3}, points.options().dtype(torch::kInt32));
    const auto [index, vectors] =
        edges_within.call(points, cell, pairs_.rows,
                          pairs_.points.defined() ? pairs_.points : pairs_.rows, shifts, cutoff_);
    return {pairs_.species, index, vectors, pairs_.n_local};
}

ForwardResult DeviceSteps::forward(const Positions &positions) {
    return with_plain_errors("the forward pass", [&] {
        graph_ = {};
        evaluator_.release();
        is_recorded_ = false;
        if (recorded_ && recorded_->takes(positions, n_edges_)) {
            if (const auto result = recorded_->forward(positions)) {
                is_recorded_ = true;
                return *result;
            }
        }
        graph_ = edges_at(positions);
        n_edges_ = graph_.edge_vectors.size(0);
        return evaluator_.forward(graph_);
    });
}

EdgeForces DeviceSteps::forces_of(const Tensor &edge_gradients, bool with_atom_virials) const {
    static const auto edge_forces = operator_of<std::tuple<Tensor, Tensor, Tensor>(
        const Tensor &, const Tensor &, const Tensor &, int64_t, int64_t)>("equicalc::edge_forces");
    const Graph edges = graph();
    const auto [forces, virial, atom_virials] =
        edge_forces.call(edges.edge_index, edges.edge_vectors, edge_gradients.to(device_),
                         pairs_.n_local, pairs_.species.size(0));
    return {forces.cpu(), virial.cpu(), with_atom_virials ? atom_virials.cpu() : Tensor()};
}

EdgeForces DeviceSteps::backward(const Tensor &gradient, bool with_atom_virials) {
    return with_plain_errors("the backward pass", [&] {
        return is_recorded_ ? recorded_->backward(gradient, with_atom_virials)
                            : forces_of(evaluator_.backward(gradient), with_atom_virials);
    });
}

EdgeForces DeviceSteps::variable_forces(const Tensor &gradient) {
    return with_plain_errors("the backward pass", [&] {
        return forces_of(is_recorded_ ? recorded_->variable_gradient(gradient)
                                      : evaluator_.variable_gradient(gradient),
                         false);
    });
}

Graph DeviceSteps::graph() const { return is_recorded_ ? recorded_->graph() : graph_; }

}  // namespace equicalc
