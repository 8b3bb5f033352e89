// The charges of one step: from the network's variables to charges, long-range energy, electric
// field, and the gradient that enters the network's backward pass.
#include "pair_equicalc.h"

#include "atom_graph.h"
#include "charge_constraint.h"
#include "charge_equilibration.h"
#include "charge_history.h"
#include "charge_watch.h"
#include "coulomb.h"
#include "dipole.h"
#include "electric_field.h"
#include "halo.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "kspace.h"
#include "timer.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <stdexcept>
#include <vector>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;
using equicalc::ChargeModel;

namespace {

std::vector<double> column(const torch::Tensor &variables, int64_t index) {
    const torch::Tensor values = variables.select(1, index).contiguous();
    const double *first = values.data_ptr<double>();
    return {first, first + values.numel()};
}

}  // namespace

void PairEquicalc::make_coulomb() {
    const std::vector<int> &species = members_.front().species_of_type;
    std::vector<double> sigma_of_type(species.size(), 0.0);
    for (size_t type = 1; type < species.size(); ++type) {
        if (species[type] >= 0) {
            sigma_of_type[type] = info().sigmas.at(species[type]);
        }
    }
    coulomb_ = std::make_unique<Coulomb>(
        lmp, units_, std::move(sigma_of_type),
        [this](std::span<const double> charges) { return charges_of_all_rows(charges); },
        [this](int eflag, int vflag) { run_kspace(eflag, vflag); });
    field_ = std::make_unique<ElectricField>(lmp);
    watch_ = std::make_unique<ChargeWatch>(lmp, info().name);
    for (Member &member : members_) {
        member.history = std::make_unique<ChargeHistory>(lmp, units_);
        member.constraint = std::make_unique<ChargeConstraint>(world);
    }
}

bool PairEquicalc::has_equilibrated_charges() const {
    return model_is_loaded() && info().charge_model == ChargeModel::equilibrated;
}

void PairEquicalc::run_kspace(int eflag, int vflag) { force->kspace->compute(eflag, vflag); }

std::span<const double> PairEquicalc::charges_of_all_rows(std::span<const double> charges) {
    if (comm->nprocs == 1 && !options_.extended_ghosts) {
        return charges;
    }
    all_charges_.resize(graph_->n_total());
    std::copy(charges.begin(), charges.end(), all_charges_.begin());
    halo_->forward_to_all(all_charges_);
    return all_charges_;
}

torch::Tensor PairEquicalc::add_charges(Member &member, const torch::Tensor &variables, int eflag,
                                        int vflag) {
    const std::span<const int> atoms(graph_->atom_of_row().data(), graph_->n_local());
    timer->stamp(Timer::PAIR);
    const torch::Tensor gradient =
        info().charge_model == ChargeModel::equilibrated
            ? equilibrated_charges(member, variables, atoms, eflag, vflag)
            : constrained_charges(member, variables, atoms, eflag, vflag);
    timer->stamp(Timer::KSPACE);
    return gradient;
}

// What does not depend on where the charges came from.
void PairEquicalc::add_output_of_charges(const Member &member, const torch::Tensor &variables,
                                         std::span<const int> atoms,
                                         std::span<const double> charges) {
    for (size_t row = 0; row < charges.size(); ++row) {
        outputs_.charges[row] += charges[row];
    }
    add_dipole(
        {lmp, units_, member.model->info(), atoms, member.species_of_type, variables, charges});
}

torch::Tensor PairEquicalc::constrained_charges(Member &member, const torch::Tensor &variables,
                                                std::span<const int> atoms, int eflag, int vflag) {
    const equicalc::ModelInfo &model = member.model->info();
    ChargeConstraint &constraint = *member.constraint;
    constraint.apply(variables, options_.total_charge / units_.charge);
    const bool with_heat = cvflag_atom != 0 && charges_respond();
    const LongRange &long_range = coulomb_->solve(constraint.charges(), eflag, vflag, with_heat);
    if (with_heat) {
        heat_ = heat_of_charges(variables, constraint.shift(), long_range, world);
    }
    add_long_range(long_range);
    add_output_of_charges(member, variables, atoms, constraint.charges());
    const std::vector<double> in_field = field_potentials(lmp, units_, model, atoms, field_->now());
    torch::Tensor gradient = constraint.gradient(long_range.potentials, in_field);
    if (info().charge_model == ChargeModel::transferred) {
        const double screening = std::sqrt(model.epsilon_inf);
        for (int axis = 0; axis < 3; ++axis) {
            gradient.select(1, 2 + axis).fill_(-screening * field_->now()[axis]);
        }
    }
    return gradient;
}

torch::Tensor PairEquicalc::equilibrated_charges(Member &member, const torch::Tensor &variables,
                                                 std::span<const int> atoms, int eflag, int vflag) {
    const std::vector<double> chi = column(variables, 0), eta = column(variables, 1);
    std::vector<double> chi_in_field =
        field_potentials(lmp, units_, member.model->info(), atoms, field_->now());
    chi_in_field.resize(atoms.size(), 0.0);
    for (size_t row = 0; row < atoms.size(); ++row) {
        chi_in_field[row] += chi[row];
    }
    EquilibrationProblem problem{chi_in_field,          eta, options_.total_charge / units_.charge,
                                 coulomb_->tolerance(), {},  world};
    problem.potentials = [this](std::span<const double> charges) {
        return coulomb_->potentials(charges);
    };
    Equilibrium found;
    find_minimum([&] { found = equilibrate(problem, member.history->start(atoms)); });
    member.history->record(atoms, found.charges);
    pvector[3] += comm->me == 0 ? found.steps : 0;
    const std::vector<double> &charges = found.charges;
    const bool with_heat = cvflag_atom != 0;
    const LongRange &solved = coulomb_->solve(charges, eflag, vflag, with_heat);
    add_long_range(solved);
    add_output_of_charges(member, variables, atoms, charges);
    if (with_heat) {
        const LongRange long_range = solved;  // there are further sums
        find_minimum([&] {
            heat_ = heat_of_equilibrium(
                problem, charges, long_range,
                [&](std::span<const double> other) { return coulomb_forces(other, atoms); });
        });
        for (size_t row = 0; row < charges.size(); ++row) {
            atom->q[atoms[row]] = units_.charge * charges[row];
        }
    }

    // By the theorem of Hellmann and Feynman the minimum changes with its parameters alone.
    torch::Tensor gradient = torch::empty_like(variables);
    auto rows = gradient.accessor<double, 2>();
    for (size_t row = 0; row < charges.size(); ++row) {
        rows[row][0] = charges[row];
        rows[row][1] = 0.5 * charges[row] * charges[row];
        add_charge_energy(static_cast<int>(row), chi[row] * rows[row][0] + eta[row] * rows[row][1]);
    }
    return gradient;
}

// Searches fail on all ranks or on none.
void PairEquicalc::find_minimum(const std::function<void()> &search) {
    try {
        search();
    } catch (const LAMMPSException &) {
        throw;
    } catch (const std::exception &exception) {
        error->all(FLERR, std::string("pair_style equicalc: ") + exception.what());
    }
}

// Leaves the forces of the step as they are.
std::vector<std::array<double, 3>> PairEquicalc::coulomb_forces(std::span<const double> charges,
                                                                std::span<const int> atoms) {
    double *first = atom->nmax > 0 ? atom->f[0] : nullptr;
    const auto n_numbers = 3 * static_cast<size_t>(atom->nlocal + atom->nghost);
    const std::vector<double> kept(first, first + n_numbers);
    std::fill_n(first, n_numbers, 0.0);
    coulomb_->solve(charges, ENERGY_NONE, VIRIAL_NONE);
    std::vector<std::array<double, 3>> result;
    for (const int i : atoms) {
        const double *f = atom->f[i];
        result.push_back({f[0] / units_.force(), f[1] / units_.force(), f[2] / units_.force()});
    }
    std::copy(kept.begin(), kept.end(), first);
    return result;
}

// In V/angstrom.
Vector PairEquicalc::field_in_volt() const {
    return {options_.field[0] / units_.field, options_.field[1] / units_.field,
            options_.field[2] / units_.field};
}

// energy: eV
void PairEquicalc::add_charge_energy(int row, double energy) {
    const int i = graph_->atom_of_row()[row];
    outputs_.charge_energies[row] += energy;
    if (eflag_global != 0) {
        eng_coul += units_.energy * energy;
    }
    if (eflag_atom != 0) {
        eatom[i] += units_.energy * energy;
    }
}

void PairEquicalc::add_dipole(const DipoleOfAtoms &dipole) {
    // `compute pair` has its steps among those that tally energies; else nobody asks.
    if (eflag_global == 0 && !field_->acts()) {
        return;
    }
    const Vector &field = field_->now();
    for (size_t row = 0; row < dipole.count(); ++row) {
        const int i = graph_->atom_of_row()[row];
        const DipoleShare share = dipole.of(row);
        double energy = 0.0;
        for (int axis = 0; axis < 3; ++axis) {
            pvector[axis] += units_.charge * units_.length * share.dipole[axis];
            energy -= field[axis] * share.dipole[axis];
            atom->f[i][axis] += units_.force() * share.moved * field[axis];
        }
        add_charge_energy(static_cast<int>(row), energy);
        const std::array<double, 6> part = field_virial(field, share.bond);
        for (int k = 0; k < 6; ++k) {
            if (vflag_global != 0) {
                virial[k] += units_.energy * part[k];
            }
            if (vflag_atom != 0) {
                vatom[i][k] += units_.energy * part[k];
            }
        }
    }
}

void PairEquicalc::add_long_range(const LongRange &long_range) {
    // Global numbers are those of all ranks, and LAMMPS sums over ranks.
    if (comm->me == 0) {
        if (eflag_global != 0) {
            eng_coul += units_.energy * long_range.energy;
        }
        if (vflag_global != 0) {
            for (int k = 0; k < 6; ++k) {
                virial[k] += units_.energy * long_range.virial[k];
            }
        }
    }
    for (int64_t row = 0; row < graph_->n_local(); ++row) {
        const int i = graph_->atom_of_row()[row];
        outputs_.charge_energies[row] += long_range.atom_energies[row];
        outputs_.potentials[row] += long_range.potentials[row];
        if (eflag_atom != 0) {
            eatom[i] += units_.energy * long_range.atom_energies[row];
        }
        if (vflag_atom != 0) {
            for (int k = 0; k < 6; ++k) {
                vatom[i][k] += units_.energy * long_range.atom_virials[row][k];
            }
        }
        if (cvflag_atom != 0) {
            // Symmetric, as fixed charges interact along the line between them: xx yy zz xy xz yz,
            // then yx zx zy.
            for (int k = 0; k < 9; ++k) {
                cvatom[i][k] += units_.energy * long_range.atom_virials[row][k < 6 ? k : k - 3];
            }
        }
    }
}
