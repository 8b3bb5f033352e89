#include "style_options.h"

#include "error.h"
#include "lammps.h"
#include "utils.h"

#include <functional>
#include <map>
#include <span>

namespace equicalc_lammps {
namespace {

using LAMMPS_NS::LAMMPS;
using Words = std::span<char *>;

constexpr const char *kUsage =
    "pair_style equicalc [precision float64|float32|mixed] [device cpu|cuda|auto] [charge Q] "
    "[efield Ex Ey Ez] [ghosts exchange|extended] [deviation N] "
    "[contacts warn|stop|ignore] [skin_mask on]";

struct Option {
    int n_values;
    // Returns false for values it does not know.
    std::function<bool(LAMMPS *, StyleOptions &, const Words &)> read;
};

bool read_device(LAMMPS *lmp, StyleOptions &options, const Words &values) {
    const bool known = names_device(values[0]);
    if (known) {
        options.device = choose_device(lmp, values[0], "pair_style equicalc");
    }
    return known;
}

// Edges between cutoff and skin have no part in the energy; there is no reason to carry them along.
bool read_skin_mask(LAMMPS *lmp, StyleOptions &, const Words &values) {
    const std::string word = values[0];
    if (word == "off") {
        lmp->error->all(FLERR,
                        "pair_style equicalc: found 'skin_mask off', but pairs in the skin beyond "
                        "the cutoff are always left out: they would cost time and add exact zeros. "
                        "Type 'skin_mask on', or nothing");
    }
    return word == "on";
}

bool read_deviation(LAMMPS *lmp, StyleOptions &options, const Words &values) {
    options.deviation_every = LAMMPS_NS::utils::inumeric(FLERR, values[0], false, lmp);
    return options.deviation_every > 0;
}

bool read_contacts(LAMMPS *, StyleOptions &options, const Words &values) {
    static const std::map<std::string, OnContact> words = {
        {"warn", OnContact::warn}, {"stop", OnContact::stop}, {"ignore", OnContact::ignore}};
    const auto found = words.find(values[0]);
    if (found == words.end()) {
        return false;
    }
    options.on_contact = found->second;
    return true;
}

const std::map<std::string, Option> &known_options() {
    static const std::map<std::string, Option> options = {
        {"precision",
         {1,
          [](LAMMPS *, StyleOptions &into, const Words &values) {
              into.precision = values[0];
              return into.precision == "float64" || into.precision == "float32" ||
                     into.precision == "mixed";
          }}},
        {"device", {1, read_device}},
        {"charge",
         {1,
          [](LAMMPS *lmp, StyleOptions &into, const Words &values) {
              into.total_charge = LAMMPS_NS::utils::numeric(FLERR, values[0], false, lmp);
              return true;
          }}},
        {"efield",
         {3,
          [](LAMMPS *lmp, StyleOptions &into, const Words &values) {
              for (int axis = 0; axis < 3; ++axis) {
                  into.field[axis] = LAMMPS_NS::utils::numeric(FLERR, values[axis], false, lmp);
              }
              return true;
          }}},
        {"ghosts",
         {1,
          [](LAMMPS *, StyleOptions &into, const Words &values) {
              into.extended_ghosts = std::string(values[0]) == "extended";
              return into.extended_ghosts || std::string(values[0]) == "exchange";
          }}},
        {"deviation", {1, read_deviation}},
        {"contacts", {1, read_contacts}},
        {"skin_mask", {1, read_skin_mask}},
    };
    return options;
}

}  // namespace

StyleOptions StyleOptions::parse(LAMMPS *lmp, int n_words, char **words) {
    StyleOptions options;
    for (int k = 0; k < n_words;) {
        const auto found = known_options().find(words[k]);
        const int wanted = found == known_options().end() ? 1 : found->second.n_values;
        const int present = std::min(wanted, n_words - k - 1);
        const Words values(words + k + 1, present);
        const bool understood = found != known_options().end() && present == wanted &&
                                found->second.read(lmp, options, values);
        if (!understood) {
            std::string text = words[k];
            for (const char *value : values) {
                text += std::string(" ") + value;
            }
            lmp->error->all(FLERR, "pair_style equicalc does not understand '" + text +
                                       "'. Type '" + kUsage + "'");
        }
        k += 1 + wanted;
    }
    return options;
}

}  // namespace equicalc_lammps
