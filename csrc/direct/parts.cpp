#include "direct/parts.h"

#include <torch/csrc/jit/api/module.h>

#include <utility>

namespace equicalc::direct {

using torch::Tensor;

namespace {

Parts::Table table_of(const torch::jit::Module &network) {
    Parts::Table table;
    for (const auto &part : network.named_modules()) {
        const std::string prefix = part.name.empty() ? "" : part.name + ".";
        for (const auto &attribute : part.value.named_attributes(/*recurse=*/false)) {
            if (!attribute.value.isModule()) {
                table.emplace(prefix + attribute.name, attribute.value);
            }
        }
    }
    return table;
}

}  // namespace

bool Parts::known(const torch::jit::Module &deployed) {
    if (!deployed.hasattr("network") || !deployed.attr("network").isModule()) {
        return false;
    }
    const auto name = deployed.attr("network").toModule().type()->name();
    return name && name->name() == "EquiNetwork";
}

Parts::Parts(const torch::jit::Module &deployed)
    : Parts(table_of(deployed.attr("network").toModule().deepcopy())) {}

Parts::Parts(Table table) : table_(std::move(table)) {
    l_max = integer("l_max");
    n_layers = integer("n_layers");
    const Tensor own = tensor("first.own");
    n_species = own.size(0);
    channels = own.size(1);
    const std::string model = value("charge_model").toStringRef();
    for (const ChargeModel known : {ChargeModel::none, ChargeModel::fixed, ChargeModel::predicted,
                                    ChargeModel::transferred, ChargeModel::equilibrated}) {
        if (model == name_of(known)) {
            charge_model = known;
        }
    }
}

const c10::IValue &Parts::value(const std::string &path) const {
    const auto found = table_.find(path);
    if (found == table_.end()) {
        throw Error("equicalc: the network of the model has no '" + path +
                    "'. It was written by another version of equicalc; export the model again");
    }
    return found->second;
}

Tensor Parts::tensor(const std::string &path) const {
    const Tensor found = value(path).toTensor().detach();
    return found.is_floating_point() ? found.to(torch::kFloat64).contiguous() : found.contiguous();
}

std::vector<Tensor> Parts::per_degree(const std::string &path) const {
    std::vector<Tensor> result;
    for (int64_t degree = 0; degree <= l_max; ++degree) {
        result.push_back(tensor(path + "." + std::to_string(degree)));
    }
    return result;
}

}  // namespace equicalc::direct
