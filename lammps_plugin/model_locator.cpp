#include "model_locator.h"

#include "equicalc.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

namespace equicalc_lammps {
namespace {

namespace fs = std::filesystem;

fs::path models_directory() {
    Dl_info info{};
    // Any address inside this library will do.
    if (dladdr(reinterpret_cast<const void *>(&locate_model), &info) == 0 ||
        info.dli_fname == nullptr) {
        return {};
    }
    return fs::path(info.dli_fname).parent_path() / "models";
}

std::string shipped_models(const fs::path &directory) {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto &entry : fs::directory_iterator(directory, error)) {
        if (entry.path().extension() == ".pt") {
            names.push_back(entry.path().stem().string());
        }
    }
    std::sort(names.begin(), names.end());
    std::string text;
    for (const auto &name : names) {
        text += (text.empty() ? "" : ", ") + name;
    }
    return text.empty() ? "none" : text;
}

}  // namespace

std::string locate_model(const std::string &path_or_name) {
    std::error_code error;
    if (fs::is_regular_file(path_or_name, error)) {
        return path_or_name;
    }
    const fs::path directory = models_directory();
    if (path_or_name.find('/') == std::string::npos) {
        const fs::path shipped = directory / (path_or_name + ".pt");
        if (fs::is_regular_file(shipped, error)) {
            return shipped.string();
        }
    }
    throw equicalc::ModelFileError(
        "found no model '" + path_or_name + "': expected the path of a file written by 'equicalc " +
        "export RUN -o model.pt', or the name of a shipped model (" + shipped_models(directory) +
        "). Type 'pair_coeff * * PATH El1 El2 ...'");
}

}  // namespace equicalc_lammps
