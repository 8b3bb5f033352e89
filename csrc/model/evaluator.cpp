// Forward and backward of the network on one neighbour graph.
#include "model/network.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <tuple>

#include "model/compiled_network.h"

namespace equicalc {
namespace {

void check_graph(const Graph &graph) {
    const auto require = [](bool holds, const char *text) {
        if (!holds) {
            throw Error(std::string("equicalc: bad graph: ") + text);
        }
    };
    const auto &[species, index, vectors, n_local] = graph;
    require(species.defined() && species.dim() == 1 && species.scalar_type() == torch::kInt64,
            "species must be int64 [n_total]");
    require(index.defined() && index.dim() == 2 && index.size(0) == 2 &&
                (index.scalar_type() == torch::kInt64 || index.scalar_type() == torch::kInt32),
            "edge_index must be int32 or int64 [2, E]");
    require(vectors.defined() && vectors.dim() == 2 && vectors.size(1) == 3 &&
                vectors.scalar_type() == torch::kFloat64,
            "edge_vectors must be float64 [E, 3]");
    require(index.size(1) == vectors.size(0), "edge_index and edge_vectors differ in length");
    require(n_local >= 0 && n_local <= species.size(0), "n_local must be within 0..n_total");
}

torch::Tensor to_host(const torch::Tensor &tensor) {
    return tensor.detach().to(torch::kCPU, torch::kFloat64).contiguous();
}

}  // namespace

// Energies and charge variables from the scripted module.
std::pair<torch::Tensor, torch::Tensor> scripted_outputs(const Model &model,
                                                         const torch::Tensor &species,
                                                         const torch::Tensor &edge_vectors,
                                                         const torch::Tensor &edge_index,
                                                         int64_t n_local) {
    // Graphs change shape at every step: specialising code on shapes would never pay back.
    const torch::jit::GraphOptimizerEnabledGuard no_specialisation(false);
    torch::jit::Module &network = model.network().module;
    const auto outputs =
        network.get_method("raw_outputs")({species, edge_vectors, edge_index, n_local}).toTuple();
    const torch::Tensor energies = outputs->elements().at(0).toTensor();
    const torch::Tensor variables = outputs->elements().at(1).toTensor();
    const int64_t columns = n_variables(model.info().charge_model);
    TORCH_CHECK(energies.dim() == 1 && energies.size(0) == n_local && variables.dim() == 2 &&
                    variables.size(0) == n_local && variables.size(1) == columns,
                "the network must return energies [n_local] and charge variables [n_local, ",
                columns, "], found ", energies.sizes(), " and ", variables.sizes(),
                " with n_local = ", n_local);
    return {energies, variables};
}

Evaluator::Evaluator(std::shared_ptr<Model> model) : model_(std::move(model)) {
    if (const auto &parts = model_->network().parts) {
        direct_ = direct::Network::make(*parts, model_->options().dtype);
    } else if (const auto &program = model_->network().program) {
        direct_ =
            std::make_shared<compiled::Network>(program, model_->info(), model_->options().dtype);
    }
}

bool Evaluator::is_direct() const { return model_->network().parts.has_value(); }

ForwardResult Evaluator::forward(const Graph &graph, HaloExchange *exchange) {
    check_graph(graph);
    return with_plain_errors("the forward pass", [&] {
        release();  // first: the next step may use its memory
        n_local_ = graph.n_local;
        graph_device_ = graph.edge_vectors.device();
        if (direct_) {
            const ForwardResult result = direct_->forward(graph, exchange);
            variables_ = result.variables;
            is_evaluated_ = true;
            return result;
        }
        const ExchangeScope scope(exchange);
        const torch::AutoGradMode with_grad(true);
        const LoadOptions &options = model_->options();
        const torch::Tensor species = graph.species.to(options.device);
        const torch::Tensor edge_index =
            graph.edge_index.to(options.device, torch::kInt64).contiguous();
        edge_vectors_ =
            graph.edge_vectors.detach()
                .to(options.device, options.dtype, /*non_blocking=*/false, /*copy=*/true)
                .requires_grad_(true);
        n_edges_ = edge_vectors_.size(0);
        std::tie(energies_, variables_) =
            scripted_outputs(*model_, species, edge_vectors_, edge_index, n_local_);
        is_evaluated_ = true;
        return ForwardResult{to_host(energies_), to_host(variables_)};
    });
}

void Evaluator::check_backward(const torch::Tensor &gradient) const {
    if (!is_evaluated_) {
        throw Error("equicalc: Evaluator::backward needs a forward call before each backward call");
    }
    if (gradient.defined() && gradient.sizes() != variables_.sizes()) {
        throw Error("equicalc: the gradient of the charge variables has " +
                    std::to_string(gradient.numel()) + " numbers, expected " +
                    std::to_string(variables_.numel()) + " (" + std::to_string(n_local_) +
                    " atoms, " + std::to_string(variables_.size(1)) + " variables each)");
    }
}

torch::Tensor Evaluator::on_graph_device(const torch::Tensor &gradient) const {
    return gradient.detach().to(graph_device_, torch::kFloat64).contiguous();
}

torch::Tensor Evaluator::backward(const torch::Tensor &gradient, HaloExchange *exchange) {
    check_backward(gradient);
    return with_plain_errors("the backward pass", [&] {
        is_evaluated_ = false;  // the graph is used up
        if (direct_) {
            return direct_->backward({1.0, {}, gradient, true}, exchange);
        }
        const torch::Tensor result =
            scripted_gradient(torch::ones_like(energies_), gradient, false, exchange);
        edge_vectors_ = energies_ = variables_ = torch::Tensor();
        return result;
    });
}

torch::Tensor Evaluator::variable_gradient(const torch::Tensor &gradient, HaloExchange *exchange) {
    check_backward(gradient);
    return with_plain_errors("the backward pass", [&] {
        return direct_ ? direct_->backward({0.0, {}, gradient}, exchange)
                       : scripted_gradient({}, gradient, true, exchange);
    });
}

torch::Tensor Evaluator::weighted_gradient(const torch::Tensor &energy_weights,
                                           const torch::Tensor &variable_weights,
                                           HaloExchange *exchange) {
    check_backward(variable_weights);
    return with_plain_errors("the backward pass", [&] {
        return direct_ ? direct_->backward({0.0, energy_weights, variable_weights}, exchange)
                       : scripted_gradient(energy_weights, variable_weights, true, exchange);
    });
}

torch::Tensor Evaluator::scripted_gradient(const torch::Tensor &energy_weights,
                                           const torch::Tensor &variable_weights, bool keep,
                                           HaloExchange *exchange) {
    const ExchangeScope scope(exchange);
    const torch::jit::GraphOptimizerEnabledGuard no_specialisation(false);
    torch::autograd::variable_list outputs, weights;
    const auto add = [&](const torch::Tensor &output, const torch::Tensor &weight) {
        // A network may have constant charges: they contribute nothing here.
        if (weight.defined() && output.requires_grad()) {
            outputs.push_back(output);
            weights.push_back(weight.detach().to(output.options().requires_grad(false)));
        }
    };
    add(energies_, energy_weights);
    add(variables_, variable_weights);
    if (outputs.empty()) {
        return on_graph_device(torch::zeros_like(edge_vectors_).narrow(0, 0, n_edges_));
    }
    const torch::Tensor gradient =
        torch::autograd::grad(outputs, {edge_vectors_}, weights, keep).at(0);
    return on_graph_device(gradient.narrow(0, 0, n_edges_));
}

void Evaluator::release() {
    is_evaluated_ = false;
    edge_vectors_ = energies_ = variables_ = torch::Tensor();
}

}  // namespace equicalc
