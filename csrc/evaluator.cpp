// Forward and backward of the network on one neighbour graph.
#include "network.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

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
                index.scalar_type() == torch::kInt64,
            "edge_index must be int64 [2, E]");
    require(vectors.defined() && vectors.dim() == 2 && vectors.size(1) == 3 &&
                vectors.scalar_type() == torch::kFloat64,
            "edge_vectors must be float64 [E, 3]");
    require(index.size(1) == vectors.size(0), "edge_index and edge_vectors differ in length");
    require(n_local >= 0 && n_local <= species.size(0), "n_local must be within 0..n_total");
}

torch::Tensor to_host(const torch::Tensor &tensor) {
    return tensor.detach().to(torch::kCPU, torch::kFloat64).contiguous();
}

// Everything leaves as equicalc::Error; torch's errors lose their C++ backtrace.
template <typename Run>
auto with_plain_errors(const char *phase, Run run) {
    try {
        return run();
    } catch (const Error &) {
        throw;
    } catch (const std::exception &error) {
        throw Error(std::string("equicalc: ") + phase + " failed: " + plain_text(error));
    }
}

}  // namespace

Evaluator::Evaluator(std::shared_ptr<Model> model) : model_(std::move(model)) {}

ForwardResult Evaluator::forward(const Graph &graph, HaloExchange *exchange) {
    check_graph(graph);
    return with_plain_errors("the forward pass", [&] {
        const ExchangeScope scope(exchange);
        const torch::AutoGradMode with_grad(true);
        // Graphs change shape at every step: specialising code on shapes would never pay back.
        const torch::jit::GraphOptimizerEnabledGuard no_specialisation(false);
        const LoadOptions &options = model_->options();
        torch::jit::Module &network = model_->network().module;

        const torch::Tensor species = graph.species.to(options.device);
        edge_vectors_ =
            graph.edge_vectors.detach()
                .to(options.device, options.dtype, /*non_blocking=*/false, /*copy=*/true)
                .requires_grad_(true);
        n_local_ = graph.n_local;
        const auto outputs =
            network
                .forward({species, edge_vectors_, graph.edge_index.to(options.device), n_local_,
                          torch::IValue()})
                .toTuple();
        energies_ = outputs->elements().at(0).toTensor();
        charges_ = outputs->elements().at(1).toTensor();
        TORCH_CHECK(energies_.dim() == 1 && energies_.size(0) == n_local_ &&
                        charges_.sizes() == energies_.sizes(),
                    "the network must return energies [n_local] and charges [n_local], found ",
                    energies_.sizes(), " and ", charges_.sizes(), " with n_local = ", n_local_);
        const torch::Tensor weights =
            network.get_method("charge_weights")({species.narrow(0, 0, n_local_)}).toTensor();
        return ForwardResult{to_host(energies_), to_host(charges_), to_host(weights)};
    });
}

torch::Tensor Evaluator::backward(const torch::Tensor &charge_gradient, HaloExchange *exchange) {
    if (!edge_vectors_.defined()) {
        throw Error("equicalc: Evaluator::backward needs a forward call before each backward call");
    }
    if (charge_gradient.defined() && charge_gradient.numel() != n_local_) {
        throw Error("equicalc: the charge gradient has " + std::to_string(charge_gradient.numel()) +
                    " numbers, expected one per local atom (" + std::to_string(n_local_) + ")");
    }
    return with_plain_errors("the backward pass", [&] {
        const ExchangeScope scope(exchange);
        const torch::jit::GraphOptimizerEnabledGuard no_specialisation(false);
        torch::autograd::variable_list outputs{energies_};
        torch::autograd::variable_list gradients{torch::ones_like(energies_)};
        // A network may have constant charges: they then contribute nothing here.
        if (charge_gradient.defined() && charges_.requires_grad()) {
            outputs.push_back(charges_);
            gradients.push_back(
                charge_gradient.detach().to(charges_.options().requires_grad(false)));
        }
        const torch::autograd::variable_list result =
            torch::autograd::grad(outputs, {edge_vectors_}, gradients);
        edge_vectors_ = energies_ = charges_ = torch::Tensor();  // the graph is used up
        return to_host(result.at(0));
    });
}

}  // namespace equicalc
