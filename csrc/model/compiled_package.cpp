// Strict loading of model.pt2: a package of programs that torch.export and AOTInductor compiled for
// one version of torch and one kind of processor.
#include "model/compiled_network.h"

#include <ATen/Version.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/version.h>

#include <algorithm>
#include <charconv>
#include <sstream>
#include <unordered_map>

#include "model/archive.h"
#include "model/network.h"

namespace equicalc::compiled {
namespace {

constexpr const char *kCompileLine = "equicalc export RUN_DIRECTORY -o model.pt2";
constexpr const char *kPrefix = "equicalc_";
constexpr const char *kWeightsMember = "extra/network.pt";

using Metadata = std::unordered_map<std::string, std::string>;

std::string program_of(torch::ScalarType dtype) {
    return dtype == torch::kFloat32 ? "float32" : "float64";
}

[[noreturn]] void refuse_package(const std::string &path, const std::string &reason) {
    refuse(path, reason + ". Compile it again on this machine: " + kCompileLine);
}

const std::string &word(const std::string &path, const Metadata &metadata,
                        const std::string &name) {
    const auto found = metadata.find(kPrefix + name);
    if (found == metadata.end()) {
        refuse_package(path, "its programs do not say their '" + name + "'");
    }
    return found->second;
}

template <typename T>
T number(const std::string &path, const std::string &name, const std::string &text) {
    T value{};
    const char *end = text.data() + text.size();
    const auto [rest, code] = std::from_chars(text.data(), end, value);
    if (code != std::errc() || rest != end) {
        refuse_package(path, "its programs have the impossible " + name + " '" + text + "'");
    }
    return value;
}

std::vector<std::string> words(const std::string &text) {
    std::istringstream stream(text);
    std::vector<std::string> result;
    for (std::string part; stream >> part;) {
        result.push_back(part);
    }
    return result;
}

template <typename T>
std::vector<T> numbers(const std::string &path, const std::string &name, const std::string &text) {
    std::vector<T> result;
    for (const std::string &part : words(text)) {
        result.push_back(number<T>(path, name, part));
    }
    return result;
}

// Vector instructions that torch found, from the oldest to the newest.
int64_t rank_of(const std::string &capability) {
    const std::vector<std::string> known{"DEFAULT", "AVX2", "AVX512"};
    return std::find(known.begin(), known.end(), capability) - known.begin();
}

std::string architecture() {
#if defined(__x86_64__)
    return "x86_64";
#elif defined(__aarch64__)
    return "aarch64";
#else
    return "unknown";
#endif
}

void check_machine(const std::string &path, const Metadata &metadata) {
    const auto require = [&](bool holds, const std::string &what, const std::string &found,
                             const std::string &expected) {
        if (!holds) {
            refuse_package(
                path, "it was compiled for " + what + " " + found + ", and this is " + expected);
        }
    };
    const std::string torch_version = word(path, metadata, "torch");
    require(torch_version.substr(0, torch_version.find('+')) == TORCH_VERSION, "torch",
            torch_version, TORCH_VERSION);
    const std::string device = word(path, metadata, "device");
    require(device == "cpu", "the device", device, "a machine without a program for it");
    const std::string machine = word(path, metadata, "machine");
    require(machine == architecture(), "processors of the kind", machine, architecture());
    const std::string cpu = word(path, metadata, "cpu"), own = at::get_cpu_capability();
    require(rank_of(cpu) <= rank_of(own), "processors with", cpu, "one with " + own);
}

ChargeModel charge_model(const std::string &path, const std::string &name) {
    for (const ChargeModel model : {ChargeModel::none, ChargeModel::fixed, ChargeModel::predicted,
                                    ChargeModel::transferred, ChargeModel::equilibrated}) {
        if (name == name_of(model)) {
            return model;
        }
    }
    refuse_package(path, "it has the unknown charge model '" + name + "'");
}

Metadata metadata_of(const std::string &path, torch::ScalarType dtype) {
    try {
        return torch::inductor::AOTIModelPackageLoader::load_metadata_from_package(
            path, program_of(dtype));
    } catch (const std::exception &error) {
        refuse_package(path, "it has no program in " + program_of(dtype) + " that torch " +
                                 TORCH_VERSION + " can read (" + plain_text(error) + ")");
    }
}

}  // namespace

bool is_package(const std::string &path) {
    caffe2::serialize::PyTorchStreamReader reader(path);
    return reader.hasRecord("archive_format");
}

ModelInfo read_info(const std::string &path) {
    const Metadata metadata = metadata_of(path, torch::kFloat64);
    const auto text = [&](const char *name) { return word(path, metadata, name); };
    ModelInfo info;
    info.format_version = number<int64_t>(path, "format_version", text("format_version"));
    info.name = text("name");
    info.elements = words(text("elements"));
    info.cutoff = number<double>(path, "cutoff", text("cutoff"));
    info.n_layers = number<int64_t>(path, "n_layers", text("n_layers"));
    info.exchange_width = number<int64_t>(path, "exchange_width", text("exchange_width"));
    info.charge_model = charge_model(path, text("charge_model"));
    info.sigmas = numbers<double>(path, "sigmas", text("sigmas"));
    info.nominal_charges = numbers<double>(path, "nominal_charges", text("nominal_charges"));
    info.formal_charges = numbers<int64_t>(path, "formal_charges", text("formal_charges"));
    info.epsilon_inf = number<double>(path, "epsilon_inf", text("epsilon_inf"));
    info.dispersion = text("dispersion");
    return info;
}

std::optional<direct::Parts> read_parts(const std::string &path) {
    caffe2::serialize::PyTorchStreamReader reader(path);
    if (!reader.hasRecord(kWeightsMember)) {
        return std::nullopt;
    }
    try {
        const auto [data, size] = reader.getRecord(kWeightsMember);
        const auto *bytes = static_cast<const char *>(data.get());
        direct::Parts::Table table;
        for (const auto &entry : torch::jit::pickle_load({bytes, bytes + size}).toGenericDict()) {
            table.emplace(entry.key().toStringRef(), entry.value());
        }
        if (table.at("architecture").toStringRef() != "equicalc") {
            return std::nullopt;
        }
        return direct::Parts(std::move(table));
    } catch (const std::exception &error) {
        refuse_package(path, "its weights cannot be read (" + plain_text(error) + ")");
    }
}

std::shared_ptr<torch::inductor::AOTIModelPackageLoader> load(const std::string &path,
                                                              const LoadOptions &options) {
    if (!options.device.is_cpu()) {
        refuse(path, "it was compiled for the device cpu, and " + options.device.str() +
                         " was asked for. Use device cpu, or a model.pt: " + kExportLine);
    }
    if (options.scripted) {
        refuse(path, "it has no scripted module. Export one: " + std::string(kExportLine));
    }
    check_machine(path, metadata_of(path, options.dtype));
    try {
        return std::make_shared<torch::inductor::AOTIModelPackageLoader>(path,
                                                                         program_of(options.dtype));
    } catch (const std::exception &error) {
        refuse_package(path, "torch " TORCH_VERSION " cannot load its program in " +
                                 program_of(options.dtype) + " (" + plain_text(error) + ")");
    }
}

}  // namespace equicalc::compiled
