// The device of this rank's model, from the words after `pair_style equicalc device`.
#pragma once

#include <torch/types.h>

#include <string>

namespace LAMMPS_NS {
class LAMMPS;
}

namespace equicalc_lammps {

struct DeviceChoice {
    torch::Device device = torch::kCPU;
    // Network, graph and sums of forces as operations of torch on the device; otherwise as loops on
    // the host. Always so on a GPU; `device staged` does the same on the CPU, slowly, to check one
    // against the other.
    bool is_staged = false;
};

// Whether this is a word for a device.
bool names_device(const std::string &word);
// Of `cpu`, `cuda`, `auto` or `staged`. GPUs of a machine go round its ranks. Stops LAMMPS where
// `cuda` is asked for and there is none, in the name of `style`. Collective.
DeviceChoice choose_device(LAMMPS_NS::LAMMPS *lmp, const std::string &word,
                           const std::string &style);

}  // namespace equicalc_lammps
