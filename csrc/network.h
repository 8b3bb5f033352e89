// The network behind Model; internal to model.cpp and evaluator.cpp.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <optional>

#include "direct_parts.h"
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

}  // namespace equicalc
