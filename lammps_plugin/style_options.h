// The words after `pair_style equicalc`.
#pragma once

#include "contacts.h"
#include "device_choice.h"

#include <torch/types.h>

#include <array>
#include <string>

namespace LAMMPS_NS {
class LAMMPS;
}

namespace equicalc_lammps {

struct StyleOptions {
    std::string precision = "float64";
    DeviceChoice device;
    double total_charge = 0.0;      // in units of the deck
    std::array<double, 3> field{};  // likewise
    bool extended_ghosts = false;   // no exchange between layers but a wider shell of ghosts
    OnContact on_contact = OnContact::warn;
    int deviation_every = 0;  // steps between deviations of a committee; 0: never

    // Of the network: `mixed` is another word for float32, whose geometry, sums of energies and
    // Coulomb energy are float64 anyway.
    torch::ScalarType dtype() const {
        return precision == "float64" ? torch::kFloat64 : torch::kFloat32;
    }
    bool has_field() const { return field != std::array<double, 3>{}; }

    // Stops LAMMPS at a word it does not know, with what to type instead.
    static StyleOptions parse(LAMMPS_NS::LAMMPS *lmp, int n_words, char **words);
};

}  // namespace equicalc_lammps
