#include "direct_parts.h"

#include <torch/csrc/jit/api/module.h>

#include <sstream>

namespace equicalc::direct {

using torch::Tensor;

bool Parts::known(const torch::jit::Module &deployed) {
    if (!deployed.hasattr("network") || !deployed.attr("network").isModule()) {
        return false;
    }
    const auto name = deployed.attr("network").toModule().type()->name();
    return name && name->name() == "EquiNetwork";
}

Parts::Parts(const torch::jit::Module &deployed)
    : network_(
          std::make_shared<torch::jit::Module>(deployed.attr("network").toModule().deepcopy())) {
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

c10::IValue Parts::value(const std::string &path) const {
    torch::jit::Module module = *network_;
    std::istringstream words(path);
    std::string word;
    while (std::getline(words, word, '.')) {
        if (!module.hasattr(word)) {
            break;
        }
        const c10::IValue found = module.attr(word);
        if (words.eof()) {
            return found;
        }
        if (!found.isModule()) {
            break;
        }
        module = found.toModule();
    }
    throw Error("equicalc: the network of the model has no '" + path +
                "'. It was written by another version of equicalc; export the model again");
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
