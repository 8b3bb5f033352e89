// What the input deck says to the pair style: commands, checks and their messages.
#include "pair_equicalc.h"

#include "atom_graph.h"
#include "charge_history.h"
#include "collective_error.h"
#include "coulomb.h"
#include "dipole.h"
#include "halo.h"
#include "model_locator.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "fix.h"
#include "force.h"
#include "memory.h"
#include "modify.h"
#include "neighbor.h"
#include "update.h"
#include "utils.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;

namespace {

template <typename List>
std::string joined(const List &words) {
    std::string text;
    for (const auto &word : words) {
        text += (text.empty() ? "" : " ") + std::string(word);
    }
    return text;
}

std::string shortest(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

// One width, or one per element.
std::string widths(const std::vector<double> &sigmas) {
    std::vector<std::string> words;
    for (const double sigma : sigmas) {
        words.push_back(shortest(sigma));
    }
    const bool equal = std::equal(words.begin() + 1, words.end(), words.begin());
    return equal ? words.front() : joined(words);
}

}  // namespace

void PairEquicalc::settings(int narg, char **arg) {
    dtype_ = torch::kFloat64;
    total_charge_ = 0.0;
    field_ = {};
    for (int k = 0; k < narg;) {
        const std::string key = arg[k];
        const int n_values = std::min(narg - k - 1, key == "efield" ? 3 : 1);
        const std::string value =
            joined(std::vector<std::string>(arg + k + 1, arg + k + 1 + n_values));
        if (key == "precision" && (value == "float64" || value == "float32")) {
            dtype_ = value == "float64" ? torch::kFloat64 : torch::kFloat32;
        } else if (key == "charge" && n_values == 1) {
            total_charge_ = utils::numeric(FLERR, value, false, lmp);
        } else if (key == "efield" && n_values == 3) {
            for (int axis = 0; axis < 3; ++axis) {
                field_[axis] = utils::numeric(FLERR, arg[k + 1 + axis], false, lmp);
            }
        } else {
            error->all(FLERR, "pair_style equicalc does not understand '" + key +
                                  (value.empty() ? "" : " " + value) +
                                  "'. Type 'pair_style equicalc [precision float64|float32] "
                                  "[charge Q] [efield Ex Ey Ez]'");
        }
        k += 1 + n_values;
    }
}

void PairEquicalc::coeff(int narg, char **arg) {
    if (narg < 3) {
        error->all(FLERR,
                   "pair_coeff of pair_style equicalc needs a model and elements. Type 'pair_coeff "
                   "* * MODEL El1 El2 ...', for example 'pair_coeff * * kcl K Cl'");
    }
    if (std::strcmp(update->unit_style, "metal") != 0) {
        error->all(FLERR,
                   std::string("pair_style equicalc needs eV and angstrom but found 'units ") +
                       update->unit_style + "'. Type 'units metal' at the top of the input");
    }
    load_model(arg[2]);
    map_types(narg - 3, arg + 3);
    graph_ = std::make_unique<AtomGraph>(lmp, info().cutoff, species_of_type_);
    halo_ = std::make_unique<Halo>(lmp, this, *graph_);
    // LAMMPS sizes its buffers once: for the widest message, and for (rank, row) of the owner.
    const auto bytes = static_cast<int64_t>(torch::elementSize(dtype_));
    comm_reverse = Halo::buffer_size(info().exchange_width, bytes);
    comm_forward = std::max(2, comm_reverse);
    coulomb_.reset();
    require_possible_field();
    if (info().has_charges()) {
        require_settings_of_charged_model();
        make_coulomb();
        coulomb_->attach();
        give_nominal_charges();
    }
}

void PairEquicalc::load_model(const std::string &path_or_name) {
    run_on_all_ranks(lmp, [&] {
        const std::string path = locate_model(path_or_name);
        equicalc::LoadOptions options;
        options.dtype = dtype_;
        model_ = equicalc::Model::load(path, options);
        evaluator_ = std::make_unique<equicalc::Evaluator>(model_);
    });
    // One thread per rank unless OMP_NUM_THREADS or `package omp` say otherwise: ranks share cores.
    at::set_num_threads(comm->nthreads);
    log_model(path_or_name);
}

void PairEquicalc::log_model(const std::string &path) const {
    if (comm->me != 0) {
        return;
    }
    std::string text = "equicalc model " + info().name + " (" + path + ")\n  elements " +
                       joined(info().elements) + ", cutoff " + shortest(info().cutoff) +
                       " angstrom, " + std::to_string(info().n_layers) + " layers, ";
    if (info().has_charges()) {
        text += std::string(equicalc::name_of(info().charge_model)) +
                " charges of Gaussian width " + widths(info().sigmas) + " angstrom, total charge " +
                shortest(total_charge_) + " e\n";
    } else {
        text += "no charges\n";
    }
    if (field_ != Vector{}) {
        text += "  electric field " + shortest(field_[0]) + " " + shortest(field_[1]) + " " +
                shortest(field_[2]) + " V/angstrom, without its part of the virial\n";
    }
    text += std::string("  precision ") + (dtype_ == torch::kFloat64 ? "float64" : "float32") +
            ", " + std::to_string(comm->nthreads) + " thread(s) per MPI rank\n";
    utils::logmesg(lmp, text);
}

void PairEquicalc::map_types(int n_elements, char **elements) {
    const std::string known = joined(info().elements);
    if (n_elements != atom->ntypes) {
        error->all(FLERR, "pair_coeff of pair_style equicalc names " + std::to_string(n_elements) +
                              " elements but there are " + std::to_string(atom->ntypes) +
                              " atom types. After the model, type one element or NULL per type; "
                              "model '" +
                              info().name + "' knows " + known);
    }
    species_of_type_.assign(atom->ntypes + 1, -1);
    for (int type = 1; type <= atom->ntypes; ++type) {
        const std::string element = elements[type - 1];
        const auto found = std::find(info().elements.begin(), info().elements.end(), element);
        if (found != info().elements.end()) {
            species_of_type_[type] = static_cast<int>(found - info().elements.begin());
        } else if (element != "NULL") {
            error->all(FLERR, "model '" + info().name + "' does not know the element '" + element +
                                  "' of atom type " + std::to_string(type) + "; it knows " + known +
                                  ". Choose one of them, or NULL for atoms without this potential");
        }
    }
    if (std::all_of(species_of_type_.begin(), species_of_type_.end(),
                    [](int s) { return s < 0; })) {
        error->all(FLERR,
                   "pair_coeff of pair_style equicalc maps every atom type to NULL; model '" +
                       info().name + "' knows " + known);
    }
    const int n = atom->ntypes + 1;
    if (allocated == 0) {
        memory->create(setflag, n, n, "pair:setflag");
        memory->create(cutsq, n, n, "pair:cutsq");
        allocated = 1;
    }
    // On its own the style answers for all types; under `hybrid` not for those mapped to NULL.
    const bool alone = !utils::strmatch(force->pair_style, "^hybrid");
    for (int i = 1; i < n; ++i) {
        for (int j = 1; j < n; ++j) {
            const bool mapped = species_of_type_[i] >= 0 && species_of_type_[j] >= 0;
            setflag[i][j] = alone || mapped ? 1 : 0;
            cutsq[i][j] = 0.0;
        }
    }
}

void PairEquicalc::require_settings_of_charged_model() const {
    if (atom->q_flag == 0) {
        error->all(FLERR, "model '" + info().name +
                              "' has charges but the atoms have none: found 'atom_style " +
                              atom->atom_style + "'. Type 'atom_style charge' instead");
    }
    if (force->dielectric != 1.0) {
        error->all(FLERR, "pair_style equicalc was fitted with dielectric constant 1, found " +
                              shortest(force->dielectric) + ". Type 'dielectric 1.0'");
    }
}

void PairEquicalc::require_possible_field() const {
    if (field_ == Vector{}) {
        return;
    }
    const std::string found = "found 'efield " + shortest(field_[0]) + " " + shortest(field_[1]) +
                              " " + shortest(field_[2]) + "', but ";
    if (!info().has_charges()) {
        error->all(FLERR, found + "model '" + info().name +
                              "' has no charges. Remove it: type 'pair_style equicalc'");
    }
    const bool polar = info().charge_model == equicalc::ChargeModel::fixed ||
                       info().charge_model == equicalc::ChargeModel::transferred;
    // Rows of h: the cell vectors (xprd, 0, 0), (xy, yprd, 0), (xz, yz, zprd).
    const double *h = domain->h;
    const double along[3] = {h[0] * field_[0], h[5] * field_[0] + h[1] * field_[1],
                             h[4] * field_[0] + h[3] * field_[1] + h[2] * field_[2]};
    const int periodic[3] = {domain->xperiodic, domain->yperiodic, domain->zperiodic};
    for (int k = 0; k < 3 && !polar; ++k) {
        if (periodic[k] != 0 && std::abs(along[k]) > 1e-12) {
            error->all(FLERR, found + equicalc::name_of(info().charge_model) +
                                  " charges have no polarisation along the periodic direction " +
                                  "xyz"[k] +
                                  ". Type 'boundary f f f' for a cluster, or use a "
                                  "model with charge_model: fixed or transferred");
        }
    }
}

void PairEquicalc::refuse_fixes_in_field() const {
    for (const Fix *fix : modify->get_fix_list()) {
        if ((fix->box_change & ~Fix::BOX_CHANGE_DOMAIN) != 0 && field_ != Vector{}) {
            error->all(FLERR, std::string("fix ") + fix->id + " (" + fix->style +
                                  ") changes the box, but pair_style equicalc adds nothing to the "
                                  "virial for its electric field. Type 'unfix " +
                                  fix->id + "' and, for example, 'fix 1 all nvt temp 300 300 0.1'");
        }
        if (utils::strmatch(fix->style, "^efield") && comm->me == 0) {
            error->warning(FLERR, std::string("fix ") + fix->id +
                                      " (efield) leaves out how the charges of the model respond. "
                                      "Type 'pair_style equicalc efield Ex Ey Ez' instead");
        }
    }
}

// KSPACE styles estimate their accuracy from the charges before the first step.
void PairEquicalc::give_nominal_charges() {
    double local = 0.0, total = 0.0;
    for (int i = 0; i < atom->nlocal; ++i) {
        local += std::abs(atom->q[i]);
    }
    MPI_Allreduce(&local, &total, 1, MPI_DOUBLE, MPI_SUM, world);
    if (total > 0.0) {
        return;
    }
    for (int i = 0; i < atom->nlocal; ++i) {
        const int species = species_of_type_[atom->type[i]];
        atom->q[i] = species < 0 ? 0.0 : info().nominal_charges.at(species);
    }
}

// A model that was trained on what a D3 correction leaves over is wrong without it.
void PairEquicalc::require_dispersion() const {
    if (info().dispersion.empty() || force->pair_match("^dispersion/d3", 0) != nullptr) {
        return;
    }
    error->all(FLERR, "model " + info().name + " needs its D3 dispersion correction. Type " +
                          "'pair_style hybrid/overlay equicalc dispersion/d3 " + info().dispersion +
                          " 31.75 21.17', then 'pair_coeff * * equicalc MODEL El1 ...' and " +
                          "'pair_coeff * * dispersion/d3 El1 ...'");
}

void PairEquicalc::init_style() {
    if (!model_) {
        error->all(FLERR,
                   "pair_style equicalc has no model yet. Type 'pair_coeff * * MODEL El1 El2 ...'");
    }
    if (force->newton_pair == 0) {
        error->all(FLERR,
                   "pair_style equicalc sends forces back to the owners of ghost atoms, found "
                   "'newton off'. Type 'newton on'");
    }
    if (domain->dimension != 3) {
        error->all(FLERR, "pair_style equicalc needs three dimensions. Type 'dimension 3'");
    }
    const bool excludes_bonded =
        atom->molecular != Atom::ATOMIC && std::any_of(force->special_lj + 1, force->special_lj + 4,
                                                       [](double factor) { return factor == 0.0; });
    if (excludes_bonded) {
        error->all(FLERR,
                   "pair_style equicalc needs the bonded neighbours that special_bonds leaves "
                   "out. Type 'special_bonds lj/coul 1.0 1.0 1.0'");
    }
    require_dispersion();
    // under hybrid styles LAMMPS sizes its buffers by the hybrid style, which asked before the
    // model was known
    force->pair->comm_forward = std::max(force->pair->comm_forward, comm_forward);
    force->pair->comm_reverse = std::max(force->pair->comm_reverse, comm_reverse);
    neighbor->add_request(this, NeighConst::REQ_FULL);
    numbered_at_ = -1;
    if (!coulomb_) {
        return;
    }
    require_settings_of_charged_model();
    require_possible_field();
    refuse_fixes_in_field();
    coulomb_->init_run();
    if (force->kspace != nullptr) {
        return;
    }
    if (domain->xperiodic != 0 || domain->yperiodic != 0 || domain->zperiodic != 0) {
        error->all(FLERR,
                   "model '" + info().name +
                       "' has charges, whose long-range energy needs a KSPACE style. Add the "
                       "line 'kspace_style pppm 1e-5' after pair_coeff");
    }
    // Without periodic directions there is nothing to sum but the pairs.
    if (comm->me == 0) {
        utils::logmesg(lmp,
                       "equicalc: no periodic direction, Coulomb energy by summing all pairs\n");
    }
}

double PairEquicalc::init_one(int i, int j) {
    if (setflag[i][j] == 0) {
        error->all(FLERR, "pair_style equicalc: types " + std::to_string(i) + " and " +
                              std::to_string(j) + " have no pair_coeff");
    }
    const bool mapped = species_of_type_[i] >= 0 && species_of_type_[j] >= 0;
    if (!mapped) {
        return 0.0;
    }
    return coulomb_ ? std::max(info().cutoff, coulomb_->range(i, j)) : info().cutoff;
}

// KSPACE styles ask for `cut_coul` at the start of their init, before they look at the charges and
// at the splitting parameter. It is the only call into the pair style at that moment, so what they
// need from the model is set here; kspace_style may then come before or after pair_style.
void *PairEquicalc::extract(const char *name, int &dimension) {
    dimension = 0;
    if (std::strcmp(name, "cut_coul") != 0 || !model_) {
        return nullptr;
    }
    if (!coulomb_) {
        error->all(FLERR,
                   "model '" + info().name +
                       "' has no charges and needs no KSPACE style. Type 'kspace_style none'");
    }
    coulomb_->attach();
    give_nominal_charges();
    return coulomb_->cutoff();
}
