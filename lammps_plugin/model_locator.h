// From the word after `pair_coeff * *` to a model file.
#pragma once

#include <string>

namespace equicalc_lammps {

// A path is taken as it is; a bare name means a model that ships with the package, found in the
// directory models/ beside this shared library. Throws equicalc::ModelFileError.
std::string locate_model(const std::string &path_or_name);

}  // namespace equicalc_lammps
