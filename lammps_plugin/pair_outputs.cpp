// Numbers about single atoms, for `compute equicalc/atom`.
#include "pair_equicalc.h"

#include "atom_graph.h"

#include "atom.h"
#include "error.h"
#include "update.h"

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <vector>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;
using equicalc::ChargeModel;

namespace {

struct RawOutput {
    const char *name;
    int64_t column;
    double unit;
};

// Columns of equicalc::ChargeModel, and one of their units in those of the deck.
std::vector<RawOutput> raw_outputs(ChargeModel model, const Units &units) {
    if (model == ChargeModel::none) {
        return {};
    }
    if (model == ChargeModel::equilibrated) {
        const double volt = units.energy / units.charge;
        return {{"electronegativity", 0, volt}, {"hardness", 1, volt / units.charge}};
    }
    std::vector<RawOutput> outputs{{"raw_charge", 0, units.charge}, {"weight", 1, 1.0}};
    if (model == ChargeModel::transferred) {
        const double dipole = units.charge * units.length;
        outputs.insert(outputs.end(), {{"bond_dipole_x", 2, dipole},
                                       {"bond_dipole_y", 3, dipole},
                                       {"bond_dipole_z", 4, dipole}});
    }
    return outputs;
}

}  // namespace

void PairEquicalc::check_atom_quantity(const std::string &name) const {
    if (!model_is_loaded()) {
        error->all(FLERR,
                   "compute equicalc/atom: pair_style equicalc has no model yet. Type 'pair_coeff "
                   "* * MODEL El1 El2 ...'");
    }
    std::vector<std::string> known{"energy", "network"};
    if (info().has_charges()) {
        known.insert(known.end(), {"charge", "potential", "electrostatic"});
    }
    for (const RawOutput &output : raw_outputs(info().charge_model, units_)) {
        known.emplace_back(output.name);
    }
    known.emplace_back("deviation");
    if (std::find(known.begin(), known.end(), name) == known.end()) {
        std::string text;
        for (const std::string &word : known) {
            text += " " + word;
        }
        error->all(FLERR, "compute equicalc/atom does not know '" + name + "' of model '" +
                              info().name + "' (charge_model: " +
                              equicalc::name_of(info().charge_model) + "); it knows" + text);
    }
    if (name == "deviation" && options_.deviation_every == 0) {
        error->all(FLERR,
                   "compute equicalc/atom: deviations are computed only when asked for. Type "
                   "'pair_style equicalc deviation 1' and several models in pair_coeff");
    }
}

void PairEquicalc::write_atom_quantity(const std::string &name, double *first,
                                       size_t stride) const {
    const bool of_committee = name == "deviation";
    const int64_t step = of_committee ? outputs_.step_of_deviations : outputs_.step;
    if (step != update->ntimestep) {
        error->all(FLERR, "compute equicalc/atom: at step " + std::to_string(update->ntimestep) +
                              " the last known '" + name + "' is of step " + std::to_string(step) +
                              (of_committee
                                   ? ". Ask at multiples of N of 'pair_style equicalc deviation N'"
                                   : ". Type 'run 0' before"));
    }
    // Rows are those of the last neighbour list.
    int changed = graph_->atoms_changed() ? 1 : 0;
    MPI_Allreduce(MPI_IN_PLACE, &changed, 1, MPI_INT, MPI_MAX, world);
    if (changed != 0) {
        error->all(FLERR, "compute equicalc/atom: the '" + name + "' of step " +
                              std::to_string(step) +
                              " belongs to atoms in another order, before commands such as "
                              "write_data, write_restart, balance, delete_atoms and create_atoms. "
                              "Type 'run 0' before");
    }
    const auto write = [&](const std::function<double(int64_t)> &value) {
        for (int64_t row = 0; row < graph_->n_local(); ++row) {
            first[stride * graph_->atom_of_row()[row]] = value(row);
        }
    };
    const auto write_all = [&](const std::vector<double> &values, double unit) {
        write([&](int64_t row) { return unit * values[row]; });
    };
    if (name == "charge") {
        write_all(outputs_.charges, units_.charge);
    } else if (name == "potential") {
        write_all(outputs_.potentials, units_.energy / units_.charge);
    } else if (name == "network") {
        write_all(outputs_.network_energies, units_.energy);
    } else if (name == "electrostatic") {
        write_all(outputs_.charge_energies, units_.energy);
    } else if (name == "deviation") {
        write_all(outputs_.deviations, 1.0);
    } else if (name == "energy") {
        write([&](int64_t row) {
            return units_.energy * (outputs_.network_energies[row] + outputs_.charge_energies[row]);
        });
    }
    for (const RawOutput &output : raw_outputs(info().charge_model, units_)) {
        if (name == output.name) {
            const auto variables = outputs_.variables.accessor<double, 2>();
            write([&](int64_t row) { return output.unit * variables[row][output.column]; });
        }
    }
}
