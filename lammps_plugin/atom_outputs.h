// What the model said about each atom of this rank at one step; of a committee, the means.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace equicalc_lammps {

struct AtomOutputs {
    int64_t step = -1;
    std::vector<double> network_energies;  // eV
    std::vector<double> charge_energies;   // eV: Coulomb, equilibration and electric field
    std::vector<double> charges;           // e
    std::vector<double> potentials;        // V
    std::vector<double> deviations;        // in units of force of the deck
    int64_t step_of_deviations = -1;
    torch::Tensor variables;  // float64 [n_local, K], the columns of equicalc::ChargeModel

    void begin(int64_t at_step, int64_t n_atoms) {
        step = at_step;
        for (auto *values : {&network_energies, &charge_energies, &charges, &potentials}) {
            values->assign(n_atoms, 0.0);
        }
        variables = torch::Tensor();
    }
    void add_variables(const torch::Tensor &more) {
        variables = variables.defined() ? variables + more : more;
    }
    void divide_by(double n_models) {
        for (auto *values : {&network_energies, &charge_energies, &charges, &potentials}) {
            for (double &value : *values) {
                value /= n_models;
            }
        }
        variables = variables / n_models;
    }
};

}  // namespace equicalc_lammps
