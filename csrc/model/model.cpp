// Strict loading of model.pt: whatever is wrong with the file is named, with what to do about it.
#include "direct/kernels.h"
#include "model/network.h"

#include <torch/csrc/jit/serialization/import.h>
#include <torch/version.h>

#include <charconv>
#include <cmath>

#include "model/archive.h"
#include "model/compiled_network.h"
#include "cuda/launch.h"
#include "vectors/instructions.h"
#include "model/scripted_devices.h"

namespace equicalc {
namespace {

std::string newer_format(int64_t found) {
    return "found format_version " + std::to_string(found) + ", this version of equicalc reads " +
           std::to_string(kFormatVersion) +
           ". The file was written by a newer equicalc; update this one: pip install -U equicalc";
}

// The integer after "format_version": the one key that is needed before the module can be trusted
// to load; everything else comes from the module's attributes.
int64_t json_format_version(const std::string &path, const std::string &json) {
    const std::string key = "\"format_version\"";
    size_t position = json.find(key);
    if (position != std::string::npos) {
        position = json.find_first_not_of(" \t\r\n:", position + key.size());
    }
    if (position != std::string::npos) {
        int64_t value = 0;
        const char *begin = json.data() + position;
        if (std::from_chars(begin, json.data() + json.size(), value).ec == std::errc()) {
            return value;
        }
    }
    refuse(path, std::string("its ") + "equicalc.json" +
                     " has no integer format_version. Export the model again: " + kExportLine);
}

void check_format_version(const std::string &path, int64_t found) {
    if (found > kFormatVersion) {
        refuse(path, newer_format(found));
    }
    if (found < kFormatVersion) {
        refuse(path, "found format_version " + std::to_string(found) + ", expected " +
                         std::to_string(kFormatVersion) +
                         ". Export the model again: " + kExportLine);
    }
}

Model::Network load_network(const std::string &path, const LoadOptions &options) {
    try {
        // Loaded on the CPU first: the device of the machine that exported it may not exist here.
        torch::jit::Module module = torch::jit::load(path, torch::kCPU);
        module.eval();
        std::optional<direct::Parts> parts;
        if (!options.scripted && options.device.is_cpu() && direct::Parts::known(module)) {
            parts.emplace(module);  // in float64, before the module is cast
        }
        for (const torch::Tensor &parameter : module.parameters()) {
            parameter.requires_grad_(false);  // only edge vectors are differentiated
        }
        // Networks may hold the weights behind tables in place of the tables: filled in float64.
        if (const auto prepare = module.find_method("prepare")) {
            const torch::NoGradGuard no_grad;
            (*prepare)({});
        }
        if (options.device.is_cuda() && groups::Available::on_cuda) {
            use_cuda_kernels(module);
        }
        // Module::to(device, dtype) would cast tables of indices too.
        module.to(options.device);
        const auto cast = [&](torch::Tensor tensor) {
            if (tensor.is_floating_point()) {
                tensor.set_data(tensor.to(options.dtype));
            }
        };
        for (const torch::Tensor &parameter : module.parameters()) {
            cast(parameter);
        }
        for (const torch::Tensor &buffer : module.buffers()) {
            cast(buffer);
        }
        return {std::move(module), std::move(parts), nullptr};
    } catch (const std::exception &error) {
        refuse(path, "torch " TORCH_VERSION
                     " cannot load it; the archive is damaged or was written "
                     "by an incompatible torch. Export the model again: " +
                         std::string(kExportLine) + "\n  torch says: " + plain_text(error));
    }
}

// Reads one attribute of the module; the type is checked by torch's own IValue accessors.
template <typename Read>
auto attribute(const std::string &path, const torch::jit::Module &module, const char *name,
               const char *type, Read read) {
    if (!module.hasattr(name)) {
        refuse(path, std::string("the module has no attribute '") + name + "' (expected " + type +
                         "). Export the model again: " + kExportLine);
    }
    const torch::IValue value = module.attr(name);
    try {
        return read(value);
    } catch (const c10::Error &) {
        refuse(path, std::string("attribute '") + name + "' is a " + value.tagKind() +
                         ", expected " + type + ". Export the model again: " + kExportLine);
    }
}

ChargeModel charge_model(const std::string &path, const std::string &name) {
    for (const ChargeModel model : {ChargeModel::none, ChargeModel::fixed, ChargeModel::predicted,
                                    ChargeModel::transferred, ChargeModel::equilibrated}) {
        if (name == name_of(model)) {
            return model;
        }
    }
    refuse(path, "it has the charge model '" + name +
                     "', which this version of equicalc does not know. Update: pip install -U "
                     "equicalc");
}

ModelInfo read_info(const std::string &path, const torch::jit::Module &module) {
    using torch::IValue;
    const auto integer = [&](const char *name) {
        return attribute(path, module, name, "int", [](const IValue &v) { return v.toInt(); });
    };
    const auto number = [&](const char *name) {
        return attribute(path, module, name, "float", [](const IValue &v) { return v.toDouble(); });
    };
    ModelInfo info;
    info.format_version = integer("format_version");
    check_format_version(path, info.format_version);
    info.name =
        attribute(path, module, "name", "str", [](const IValue &v) { return v.toStringRef(); });
    info.elements = attribute(path, module, "elements", "List[str]", [](const IValue &v) {
        std::vector<std::string> symbols;
        for (const IValue &symbol : v.toListRef()) {
            symbols.push_back(symbol.toStringRef());
        }
        return symbols;
    });
    info.cutoff = number("cutoff");
    info.n_layers = integer("n_layers");
    info.exchange_width = integer("exchange_width");
    info.charge_model =
        charge_model(path, attribute(path, module, "charge_model", "str",
                                     [](const IValue &v) { return v.toStringRef(); }));
    const auto numbers = [&](const char *name) {
        return attribute(path, module, name, "List[float]",
                         [](const IValue &v) { return v.toDoubleVector(); });
    };
    info.sigmas = numbers("sigmas");
    info.nominal_charges = numbers("nominal_charges");
    info.formal_charges = attribute(path, module, "formal_charges", "List[int]",
                                    [](const IValue &v) { return v.toIntVector(); });
    info.epsilon_inf = number("epsilon_inf");
    info.dispersion = attribute(path, module, "dispersion", "str",
                                [](const IValue &v) { return v.toStringRef(); });
    return info;
}

void check_info(const std::string &path, const ModelInfo &info) {
    const auto require = [&](bool holds, const std::string &reason) {
        if (!holds) {
            refuse(path, reason + ". Export the model again: " + kExportLine);
        }
    };
    require(!info.elements.empty(), "its list of elements is empty");
    require(std::isfinite(info.cutoff) && info.cutoff > 0.0,
            "found cutoff " + std::to_string(info.cutoff) + ", expected a positive number");
    require(info.exchange_width >= 0, "its exchange_width is negative");
    require(std::isfinite(info.epsilon_inf) && info.epsilon_inf >= 1.0,
            "found epsilon_inf " + std::to_string(info.epsilon_inf) + ", expected 1 or more");
    if (info.has_charges()) {
        const auto require_per_element = [&](size_t found, const char *what) {
            require(found == info.elements.size(),
                    "found " + std::to_string(found) + " " + what + " for " +
                        std::to_string(info.elements.size()) + " elements");
        };
        require_per_element(info.sigmas.size(), "Gaussian widths");
        require_per_element(info.nominal_charges.size(), "nominal charges");
        require_per_element(info.formal_charges.size(), "formal charges");
    }
    for (const double sigma : info.sigmas) {
        require(std::isfinite(sigma) && sigma > 0.0,
                "found sigma " + std::to_string(sigma) + ", expected a positive Gaussian width");
    }
}

void check_methods(const std::string &path, const torch::jit::Module &module) {
    for (const char *method : {"forward", "raw_outputs"}) {
        if (!module.find_method(method).has_value()) {
            refuse(path, std::string("the module has no method '") + method +
                             "'. Export the model again: " + kExportLine);
        }
    }
}

}  // namespace

int64_t n_variables(ChargeModel model) {
    switch (model) {
        case ChargeModel::none:
            return 0;
        case ChargeModel::transferred:
            return 5;
        default:
            return 2;
    }
}

const char *name_of(ChargeModel model) {
    switch (model) {
        case ChargeModel::none:
            return "none";
        case ChargeModel::fixed:
            return "fixed";
        case ChargeModel::predicted:
            return "predicted";
        case ChargeModel::transferred:
            return "transferred";
        case ChargeModel::equilibrated:
            return "equilibrated";
    }
    return "";
}

Model::Model() = default;
Model::~Model() = default;

std::shared_ptr<Model> Model::load(const std::string &path, const LoadOptions &options) {
    if (options.dtype != torch::kFloat32 && options.dtype != torch::kFloat64) {
        throw Error(std::string("equicalc: models run in float32 or float64, not in ") +
                    c10::toString(options.dtype));
    }
    instructions();  // an impossible choice is refused here rather than by a kernel
    const std::string json = read_archive(path);
    // Before torch loads the network: a newer file may hold operators that this version lacks.
    check_format_version(path, json_format_version(path, json));
    const std::shared_ptr<Model> model(new Model());
    if (compiled::is_package(path)) {
        model->info_ = compiled::read_info(path);
        model->network_ = std::make_unique<Network>();
        if (!options.compiled && !options.scripted && options.device.is_cpu()) {
            model->network_->parts = compiled::read_parts(path);
        }
        if (!model->network_->parts) {
            model->network_->program = compiled::load(path, options);
        }
    } else if (options.compiled) {
        refuse(path,
               "it has no compiled program. Write one: equicalc export RUN_DIRECTORY -o model.pt2");
    } else {
        model->network_ = std::make_unique<Network>(load_network(path, options));
        model->info_ = read_info(path, model->network_->module);
        check_methods(path, model->network_->module);
    }
    if (model->info_.charge_model == ChargeModel::transferred) {
        // messages of their own for what each atom brings to the flow
        model->info_.exchange_width =
            std::max(model->info_.exchange_width, 4 * direct::kTransferChannels);
    }
    model->info_.json = json;
    check_info(path, model->info_);
    model->options_ = options;
    return model;
}

const ModelInfo &Model::info() const { return info_; }
const LoadOptions &Model::options() const { return options_; }
const Model::Network &Model::network() const { return *network_; }

}  // namespace equicalc
