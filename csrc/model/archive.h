// The zip archive around a model, checked before torch looks inside.
#pragma once

#include <string>

namespace equicalc {

inline constexpr const char *kExportLine = "equicalc export RUN_DIRECTORY -o model.pt";

// Throws ModelFileError with the path, the reason and what to do.
[[noreturn]] void refuse(const std::string &path, const std::string &reason);

// Returns the text of equicalc.json. Throws ModelFileError when the file is missing, is something
// else, is truncated, or when any of its members is damaged (torch itself reads damaged weights
// without complaint).
std::string read_archive(const std::string &path);

}  // namespace equicalc
