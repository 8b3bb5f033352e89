// The style: its words, what it needs of the deck, and one sum.
#include "kspace_equicalc.h"

#include "collective_error.h"
#include "pair_equicalc.h"
#include "words.h"

#include "coulomb/waves.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <string>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;

namespace {

constexpr int kPlaces[6] = {0, 4, 8, 1, 2, 5};  // xx yy zz xy xz yz

constexpr const char *kUsage =
    "kspace_style equicalc ACCURACY [device cpu|cuda|auto] [precision float32|float64]";

}  // namespace

KSpaceEquicalc::KSpaceEquicalc(LAMMPS *lmp) : KSpace(lmp), ranks_(lmp, gathered_) {
    ewaldflag = pppmflag = 1;
    order = chosen_order_ = 0;  // another number comes from kspace_modify
}

void KSpaceEquicalc::settings(int narg, char **arg) {
    const auto refuse = [this](const std::string &found) {
        error->all(FLERR, "kspace_style equicalc does not understand '" + found + "'. Type '" +
                              kUsage + "', for example 'kspace_style equicalc 1e-5'");
    };
    if (narg == 0) {
        refuse("");
    }
    accuracy_relative = utils::numeric(FLERR, arg[0], false, lmp);
    if (!(accuracy_relative > 0.0 && accuracy_relative < 1.0)) {
        refuse(arg[0]);
    }
    for (int k = 1; k < narg; k += 2) {
        const std::string name = arg[k], value = k + 1 < narg ? arg[k + 1] : "";
        if (name == "device" && names_device(value)) {
            device_ = choose_device(lmp, value, "kspace_style equicalc");
        } else if (name == "precision" && (value == "float32" || value == "float64")) {
            single_ = value == "float32";
        } else {
            refuse(name + (value.empty() ? "" : " " + value));
        }
    }
}

const PairEquicalc &KSpaceEquicalc::require_pair() const {
    const PairEquicalc *pair = nullptr;
    const Pair *found = nullptr, *previous = nullptr;
    // Others under hybrid styles may have no charges; a style that is alone is found for any k.
    for (int k = 1; force->pair != nullptr; ++k, previous = found) {
        found = force->pair_match("^equicalc", 0, k);
        const auto *candidate = dynamic_cast<const PairEquicalc *>(found);
        if (candidate == nullptr || found == previous) {
            break;
        }
        if (pair == nullptr || candidate->has_charges()) {
            pair = candidate;
        }
    }
    if (pair == nullptr) {
        const std::string found = force->pair_style != nullptr ? force->pair_style : "none";
        const std::string instead =
            found == "none" ? "pair_style equicalc' before it" : "kspace_style pppm 1e-5' instead";
        error->all(FLERR,
                   "kspace_style equicalc sums the charges of 'pair_style equicalc', alone or "
                   "under hybrid styles; found 'pair_style " +
                       found + "'. Type '" + instead);
    }
    return *pair;
}

void KSpaceEquicalc::require_boundaries() const {
    if (domain->dimension != 3) {
        error->all(FLERR, "kspace_style equicalc needs three dimensions. Type 'dimension 3'");
    }
    if (atom->q_flag == 0) {
        error->all(FLERR, std::string("kspace_style equicalc needs charges, found 'atom_style ") +
                              atom->atom_style + "'. Type 'atom_style charge' instead");
    }
    if (slabflag == 0 && domain->nonperiodic > 0) {
        error->all(FLERR,
                   "kspace_style equicalc needs three periodic directions, 'boundary p p p'; or "
                   "'boundary p p f' and 'kspace_modify slab 3.0' for a slab");
    }
    const bool is_slab = domain->xperiodic != 0 && domain->yperiodic != 0 &&
                         domain->boundary[2][0] == 1 && domain->boundary[2][1] == 1;
    if (slabflag != 0 && !is_slab) {
        error->all(FLERR,
                   "kspace_style equicalc: 'kspace_modify slab' needs 'boundary p p f'. Type that, "
                   "or leave 'kspace_modify slab' out where all directions are periodic");
    }
}

void KSpaceEquicalc::require_order() const {
    const auto &known = equicalc::mesh_spacings();
    if (order != 0 && known.find(order) == known.end()) {
        error->all(FLERR, "kspace_style equicalc has splines of the orders " +
                              std::to_string(known.begin()->first) + " to " +
                              std::to_string(known.rbegin()->first) +
                              ", found 'kspace_modify order " + std::to_string(order) +
                              "'. Leave it out, and the cheapest one is chosen");
    }
}

void KSpaceEquicalc::init() {
    const PairEquicalc &pair = require_pair();
    units_ = Units::of_deck(lmp);
    triclinic_check();
    require_boundaries();
    two_charge();
    pair_check();
    // The pair style sets g_ewald and nominal charges when it is asked.
    int dimension = 0;
    if (force->pair->extract("cut_coul", dimension) == nullptr) {
        error->all(FLERR,
                   "pair_style equicalc has no model with charges. Type 'pair_coeff * * MODEL El1 "
                   "El2 ...', or 'kspace_style none'");
    }
    scale = 1.0;
    qqrd2e = force->qqrd2e;
    electronvolt_ = qqrd2e * units_.charge * units_.charge / (units_.length * equicalc::kCoulomb);
    qsum_qsq();
    natoms_original = atom->natoms;
    accuracy = accuracy_absolute >= 0.0 ? accuracy_absolute : accuracy_relative * two_charge_force;

    if (order == chosen_order_) {
        order = 0;  // choose again
    }
    require_order();
    const bool is_chosen = order == 0;
    const equicalc::MeshOptions options = choose_mesh(pair);
    order = options.order;
    chosen_order_ = is_chosen ? order : 0;
    if (!options_ || !(*options_ == options)) {
        solver_.reset();
        run_on_all_ranks(lmp, [&] { make_solver(options); });
        options_ = options;
    }
}

void KSpaceEquicalc::make_solver(const equicalc::MeshOptions &options) {
    try {
        solver_ = equicalc::MeshSolver::make(options, ranks_);
    } catch (const std::exception &exception) {
        if (!is_out_of_memory(exception)) {
            throw;
        }
        const auto &n = options.points;
        throw std::runtime_error(
            "kspace_style equicalc has no memory for a mesh of " + std::to_string(n[0]) + " x " +
            std::to_string(n[1]) + " x " + std::to_string(n[2]) +
            " points. It covers all of the box, also where nothing is: type 'change_box' for less "
            "vacuum, 'boundary f f f' and 'kspace_style none' for a cluster, 'boundary p p f' and "
            "'kspace_modify slab 3.0' for a slab, or a larger number after 'kspace_style "
            "equicalc'");
    }
}

std::array<double, 9> KSpaceEquicalc::cell() const {
    const double scale_of_z = slabflag != 0 ? slab_volfactor : 1.0;
    // xprd yprd zprd yz xz xy; a slab has no images along z, and its third vector stands upright
    const double *h = domain->h;
    std::array<double, 9> rows{h[0], 0.0, 0.0, h[5], h[1], 0.0, h[4], h[3], h[2] * scale_of_z};
    if (slabflag != 0) {
        rows[6] = rows[7] = 0.0;
    }
    for (double &value : rows) {
        value *= units_.angstrom();
    }
    return rows;
}

void KSpaceEquicalc::compute(int eflag, int vflag) {
    ev_init(eflag, vflag);
    energy = 0.0;
    std::fill_n(virial, 6, 0.0);
    if (scale == 0.0) {
        return;  // nothing shall come of it
    }
    gathered_.gather(lmp, units_);
    if (!gathered_.is_finite()) {
        error->all(FLERR, "kspace_style equicalc: at step " + std::to_string(update->ntimestep) +
                              " a position or a charge is not a finite number. Take a shorter "
                              "'timestep'; or, where charges of the deck begin the search for "
                              "equilibrated ones, type 'set type 1 charge 0.0'");
    }
    const std::array<double, 9> box = cell();
    const size_t first = gathered_.first(), last = first + gathered_.own().size();
    const equicalc::CoulombSum &sum =
        solver_->solve(box.data(), {gathered_.size(), gathered_.positions(), gathered_.charges(),
                                    first, last, vflag_atom != 0, wants_source_moments_});
    double total = 0.0;
    for (size_t k = 0; k < gathered_.size(); ++k) {
        total += gathered_.charges()[k];
    }
    const double background = equicalc::background_energy(
        total, options_->sigma, equicalc::make_reciprocal(box.data()).volume);
    const double unit = scale * electronvolt_;
    energy = unit * sum.energy;
    for (int k = 0; k < 6; ++k) {
        virial[k] = unit * (sum.virial[kPlaces[k]] - (k < 3 ? background : 0.0));
    }
    add_to_atoms(sum);
    if (slabflag != 0) {
        add_slab_correction();
    }
}

void KSpaceEquicalc::add_to_atoms(const equicalc::CoulombSum &sum) {
    const double unit = scale * electronvolt_, unit_of_forces = unit / units_.length;
    const double *charges = gathered_.charges() + gathered_.first();
    source_moments_.assign(wants_source_moments_ ? 3 * atom->nlocal : 0, 0.0);
    size_t k = 0;
    for (const int i : gathered_.own()) {
        for (int axis = 0; axis < 3; ++axis) {
            atom->f[i][axis] += unit_of_forces * sum.forces[3 * k + axis];
        }
        if (eflag_atom != 0) {
            eatom[i] += 0.5 * unit * charges[k] * sum.potentials[k];
        }
        if (wants_source_moments_) {
            std::copy_n(&sum.source_moments[3 * k], 3, &source_moments_[3 * i]);
        }
        for (int c = 0; c < 6 && vflag_atom != 0; ++c) {
            vatom[i][c] += unit * sum.atom_virials[9 * k + kPlaces[c]];
        }
        ++k;
    }
}

// Takes away what the images of a slab along z do to it (Yeh and Berkowitz, J. Chem. Phys. 111,
// 3155 (1999); with a total charge Ballenegger, Arnold and Cerda, ibid. 131, 094107 (2009)):
//   E = 2 pi k (M^2 - Q S - Q^2 L^2 / 12) / V,  Q = sum q, M = sum q z, S = sum q z^2.
void KSpaceEquicalc::add_slab_correction() {
    double total = 0.0, dipole = 0.0, second = 0.0;
    for (size_t k = 0; k < gathered_.size(); ++k) {
        const double q = gathered_.charges()[k], z = gathered_.positions()[3 * k + 2];
        total += q;
        dipole += q * z;
        second += q * z * z;
    }
    const std::array<double, 9> box = cell();
    const double height = box[8], volume = box[0] * box[4] * height;
    const double unit = scale * electronvolt_ * 2.0 * equicalc::kPi * equicalc::kCoulomb / volume;
    const double shared = total * height * height / 12.0;
    energy += unit * (dipole * dipole - total * second - total * shared);
    size_t k = gathered_.first();
    for (const int i : gathered_.own()) {
        const double q = gathered_.charges()[k], z = gathered_.positions()[3 * k + 2];
        atom->f[i][2] -= 2.0 * unit / units_.length * q * (dipole - total * z);
        if (eflag_atom != 0) {
            eatom[i] += unit * q * (z * dipole - 0.5 * (second + total * z * z) - shared);
        }
        ++k;
    }
}

double KSpaceEquicalc::memory_usage() {
    const size_t solver = solver_ ? solver_->memory_bytes() : 0;
    return static_cast<double>(solver + gathered_.memory_bytes()) + 8.0 * maxeatom;
}
