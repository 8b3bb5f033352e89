// Lists and numbers in messages.
#pragma once

#include <cstdio>
#include <string>

namespace equicalc_lammps {

template <typename List>
std::string joined(const List &words) {
    std::string text;
    for (const auto &word : words) {
        text += text.empty() ? "" : " ";
        text += word;
    }
    return text;
}

inline std::string shortest(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

}  // namespace equicalc_lammps
