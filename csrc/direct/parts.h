// The weights of equicalc's own architecture (equicalc/nn/network.py) by their names, in float64,
// from a scripted module or a plain table. Direct evaluation packs them into the layouts of its
// kernels.
#pragma once

#include <ATen/core/ivalue.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "equicalc.h"

namespace torch::jit {
struct Module;
}

namespace equicalc::direct {

class Parts {
  public:
    // Whether direct evaluation knows the architecture of a deployed module.
    static bool known(const torch::jit::Module &deployed);

    // Keeps copies: the module may be cast afterwards.
    explicit Parts(const torch::jit::Module &deployed);
    // Numbers, words and tensors by their names in the network.
    using Table = std::unordered_map<std::string, c10::IValue>;
    explicit Parts(Table table);

    // A parameter or buffer, float64 or int64, contiguous, on the CPU; throws Error without it.
    torch::Tensor tensor(const std::string &path) const;
    std::vector<torch::Tensor> per_degree(const std::string &path) const;  // path.0, path.1, ...
    int64_t integer(const std::string &path) const { return value(path).toInt(); }
    double number(const std::string &path) const { return value(path).toDouble(); }
    bool flag(const std::string &path) const { return value(path).toBool(); }

    int64_t l_max = 0, n_layers = 0, channels = 0, n_species = 0;
    ChargeModel charge_model = ChargeModel::none;

  private:
    const c10::IValue &value(const std::string &path) const;

    Table table_;
};

}  // namespace equicalc::direct
