#include "model/compiled_network.h"

#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

namespace equicalc::compiled {
namespace {

using torch::Tensor;

// Rows 0 to n_local - 1 with given weights, rows beyond with none.
Tensor padded(const Tensor &rows, int64_t n_total) {
    if (rows.size(0) == n_total) {
        return rows.contiguous();
    }
    std::vector<int64_t> shape = rows.sizes().vec();
    shape[0] = n_total;
    Tensor result = torch::zeros(shape, rows.options());
    result.narrow(0, 0, rows.size(0)).copy_(rows);
    return result;
}

Tensor on_host(const Tensor &weights) { return weights.detach().to(torch::kCPU, torch::kFloat64); }

Tensor host(const Tensor &tensor) { return tensor.to(torch::kFloat64).contiguous(); }

}  // namespace

Network::Network(std::shared_ptr<torch::inductor::AOTIModelPackageLoader> program, ModelInfo info,
                 torch::ScalarType dtype)
    : program_(std::move(program)), info_(std::move(info)), dtype_(dtype) {}

std::vector<Tensor> Network::run(const Tensor &energy_weights,
                                 const Tensor &variable_weights) const {
    const torch::NoGradGuard no_grad;
    const int64_t n_total = graph_.species.size(0);
    return program_->run({graph_.species, graph_.edge_vectors, graph_.edge_index,
                          padded(energy_weights, n_total), padded(variable_weights, n_total)});
}

ForwardResult Network::forward(const Graph &graph, HaloExchange *exchange) {
    if (exchange != nullptr && info_.exchange_width > 0) {
        throw Error(
            "equicalc: a compiled model of several layers does not exchange features between "
            "ranks; use 'pair_style equicalc ghosts extended', or the model.pt of 'equicalc export "
            "RUN_DIRECTORY -o model.pt'");
    }
    const int64_t columns = n_variables(info_.charge_model);
    const auto options = torch::TensorOptions().dtype(torch::kFloat64);
    graph_ = graph.on_host();
    graph_.species = graph_.species.contiguous();
    graph_.edge_index = graph_.edge_index.to(torch::kInt64).contiguous();
    graph_.edge_vectors = graph_.edge_vectors.detach().to(dtype_).contiguous();
    if (graph.species.size(0) == 0) {
        gradient_ = torch::zeros({0, 3}, options);
        return {torch::zeros({0}, options), torch::zeros({0, columns}, options)};
    }
    const auto found =
        run(torch::ones({graph.n_local}, options), torch::zeros({graph.n_local, columns}, options));
    TORCH_CHECK(found.size() == 3 && found[0].size(0) == graph.species.size(0) &&
                    found[1].dim() == 2 && found[1].size(1) == columns,
                "the compiled program must return energies, ", columns,
                " charge variables of every atom, and a gradient");
    gradient_ = host(found[2]);
    return {host(found[0].narrow(0, 0, graph.n_local)), host(found[1].narrow(0, 0, graph.n_local))};
}

Tensor Network::backward(const direct::OutputWeights &weights, HaloExchange *) {
    if (graph_.species.size(0) == 0) {
        return gradient_;
    }
    // constant charges have no gradient by edge vectors
    const bool responds = weights.variables.defined() && info_.charge_model != ChargeModel::none &&
                          info_.charge_model != ChargeModel::fixed;
    if (!responds && !weights.energies.defined()) {
        return weights.energy * gradient_;
    }
    const auto options = torch::TensorOptions().dtype(torch::kFloat64);
    const Tensor energies = weights.energies.defined()
                                ? on_host(weights.energies)
                                : torch::full({graph_.n_local}, weights.energy, options);
    const Tensor variables =
        responds ? on_host(weights.variables)
                 : torch::zeros({graph_.n_local, n_variables(info_.charge_model)}, options);
    return host(run(energies, variables)[2]);
}

}  // namespace equicalc::compiled
