// Gradients of weighted sums of the network's outputs, through its scripted module.
#include "weighted_evaluation.h"

#include "network.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

namespace equicalc {
namespace {

torch::Tensor host_copy(const torch::Tensor &tensor) {
    return tensor.detach().to(torch::kCPU, torch::kFloat64).contiguous();
}

}  // namespace

WeightedEvaluation::WeightedEvaluation(std::shared_ptr<Model> model) : model_(std::move(model)) {}

ForwardResult WeightedEvaluation::forward(const Graph &graph) {
    try {
        const torch::AutoGradMode with_grad(true);
        const torch::jit::GraphOptimizerEnabledGuard no_specialisation(false);
        const LoadOptions &options = model_->options();
        edge_vectors_ = graph.edge_vectors.detach()
                            .to(options.device, options.dtype, /*non_blocking=*/false,
                                /*copy=*/true)
                            .requires_grad_(true);
        const auto outputs =
            model_->network()
                .module
                .get_method("raw_outputs")({graph.species.to(options.device), edge_vectors_,
                                            graph.edge_index.to(options.device), graph.n_local})
                .toTuple();
        energies_ = outputs->elements().at(0).toTensor();
        variables_ = outputs->elements().at(1).toTensor();
        return {host_copy(energies_), host_copy(variables_)};
    } catch (const std::exception &error) {
        throw Error("equicalc: the forward pass failed: " + plain_text(error));
    }
}

torch::Tensor WeightedEvaluation::gradient(const torch::Tensor &energy_weights,
                                           const torch::Tensor &variable_weights) {
    if (!edge_vectors_.defined()) {
        throw Error("equicalc: WeightedEvaluation::gradient needs a forward call before");
    }
    try {
        const torch::jit::GraphOptimizerEnabledGuard no_specialisation(false);
        torch::autograd::variable_list outputs{energies_};
        torch::autograd::variable_list weights{energy_weights.to(energies_.options())};
        // A network may have constant charges: they then contribute nothing here.
        if (variable_weights.defined() && variables_.requires_grad()) {
            outputs.push_back(variables_);
            weights.push_back(variable_weights.to(variables_.options().requires_grad(false)));
        }
        return host_copy(torch::autograd::grad(outputs, {edge_vectors_}, weights,
                                               /*retain_graph=*/true)
                             .at(0));
    } catch (const std::exception &error) {
        throw Error("equicalc: the backward pass failed: " + plain_text(error));
    }
}

void WeightedEvaluation::clear() { edge_vectors_ = energies_ = variables_ = torch::Tensor(); }

}  // namespace equicalc
