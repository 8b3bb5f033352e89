// The network behind Model; internal to this library.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <optional>
#include <string>
#include <utility>

#include "direct/parts.h"
#include "equicalc.h"

namespace torch::inductor {
class AOTIModelPackageLoader;
}

namespace equicalc {

struct Model::Network {
    mutable torch::jit::Module module;  // empty for compiled models
    // Weights of an architecture that is evaluated directly; empty: through the module.
    std::optional<direct::Parts> parts;
    // Of compiled models (model.pt2).
    std::shared_ptr<torch::inductor::AOTIModelPackageLoader> program;
};

// The text of a torch exception without its C++ backtrace.
inline std::string plain_text(const std::exception &error) {
    const auto *torch_error = dynamic_cast<const c10::Error *>(&error);
    return torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
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

// Energies and charge variables from the scripted module.
std::pair<torch::Tensor, torch::Tensor> scripted_outputs(const Model &model,
                                                         const torch::Tensor &species,
                                                         const torch::Tensor &edge_vectors,
                                                         const torch::Tensor &edge_index,
                                                         int64_t n_local);

}  // namespace equicalc
