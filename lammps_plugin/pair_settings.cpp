// What the input deck says to the pair style: commands, checks and their messages.
#include "pair_equicalc.h"

#include "atom_graph.h"
#include "charge_history.h"
#include "collective_error.h"
#include "committee.h"
#include "contacts.h"
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
#include <cctype>
#include <cmath>
#include <cstdio>
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

// A chemical symbol, of this world or not, or NULL; everything else names a model.
bool names_element(const std::string &word) {
    const auto is = [&word](size_t k, int (*kind)(int)) {
        return kind(static_cast<unsigned char>(word[k])) != 0;
    };
    const bool symbol = !word.empty() && word.size() <= 2 && is(0, std::isupper) &&
                        (word.size() == 1 || is(1, std::islower));
    return symbol || word == "NULL";
}

}  // namespace

void PairEquicalc::settings(int narg, char **arg) {
    options_ = StyleOptions::parse(lmp, narg, arg);
    ghostneigh = options_.extended_ghosts ? 1 : 0;
}

void PairEquicalc::coeff(int narg, char **arg) {
    if (narg < 3) {
        error->all(FLERR,
                   "pair_coeff of pair_style equicalc needs a model and elements. Type 'pair_coeff "
                   "* * MODEL El1 El2 ...', for example 'pair_coeff * * kcl K Cl'");
    }
    units_ = Units::of_deck(lmp);
    const std::vector<std::string> words(arg + 2, arg + narg);
    // The first word is a model; further ones are whatever does not look like an element.
    const auto first_element = std::find_if(words.begin() + 1, words.end(), names_element);
    members_.clear();
    std::for_each(words.begin(), first_element, [this](const std::string &name) {
        members_.push_back(load_model(name));
        match_to_first(members_.back());
    });
    // One thread per rank unless OMP_NUM_THREADS or `package omp` say otherwise: ranks share cores.
    at::set_num_threads(comm->nthreads);
    log_style();
    map_types({first_element, words.end()});
    if (options_.deviation_every > 0 && members_.size() == 1) {
        error->all(
            FLERR,
            "pair_style equicalc: found 'deviation " + std::to_string(options_.deviation_every) +
                "' and one model, which does not deviate from itself. Type 'pair_coeff * * "
                "MODEL MODEL ... El1 El2 ...' with several models, or 'pair_style equicalc'");
    }
    graph_ =
        std::make_unique<AtomGraph>(lmp, units_, info().cutoff, members_.front().species_of_type);
    halo_ = std::make_unique<Halo>(lmp, this, *graph_);
    committee_ = std::make_unique<Committee>(lmp, this);
    contacts_ = std::make_unique<Contacts>(lmp, info(), options_.on_contact);
    // LAMMPS sizes its buffers once: for the widest message, and for (rank, row) of the owner.
    const auto bytes = static_cast<int64_t>(torch::elementSize(options_.dtype()));
    int64_t width = 0;
    for (const Member &member : members_) {
        width = std::max(width, member.model->info().exchange_width);
    }
    comm_reverse = Halo::buffer_size(width, bytes);
    comm_forward = std::max(2, comm_reverse);
    if (options_.deviation_every > 0) {
        comm_reverse = std::max(3, comm_reverse);  // forces
    }
    coulomb_.reset();
    require_possible_field();
    if (info().has_charges()) {
        require_settings_of_charged_model();
        make_coulomb();
        coulomb_->attach();
        give_nominal_charges();
    }
}

PairEquicalc::Member PairEquicalc::load_model(const std::string &path_or_name) const {
    Member member;
    run_on_all_ranks(lmp, [&] {
        const std::string path = locate_model(path_or_name);
        equicalc::LoadOptions options;
        options.dtype = options_.dtype();
        options.device = options_.device;
        member.model = equicalc::Model::load(path, options);
        member.evaluator = std::make_unique<equicalc::Evaluator>(member.model);
        if (options_.extended_ghosts) {
            member.weighted = std::make_unique<equicalc::WeightedEvaluation>(member.model);
        }
    });
    log_model(member, path_or_name);
    return member;
}

// What a mean over models has to share: one graph of neighbours, one solver, one correction.
void PairEquicalc::match_to_first(Member &member) const {
    const equicalc::ModelInfo &first = info(), &other = member.model->info();
    const auto require_same = [&](bool same, const std::string &what, const std::string &of_first,
                                  const std::string &of_other) {
        if (!same) {
            error->all(FLERR, "the models of a committee must have the same " + what +
                                  ", but model '" + first.name + "' has " + of_first +
                                  " and model '" + other.name + "' has " + of_other +
                                  ". Train them with the same configuration and other seeds");
        }
    };
    require_same(first.cutoff == other.cutoff, "cutoff", shortest(first.cutoff),
                 shortest(other.cutoff));
    require_same(first.charge_model == other.charge_model, "charge_model",
                 equicalc::name_of(first.charge_model), equicalc::name_of(other.charge_model));
    require_same(first.dispersion == other.dispersion, "dispersion", "'" + first.dispersion + "'",
                 "'" + other.dispersion + "'");
    for (size_t k = 0; k < first.elements.size() && first.has_charges(); ++k) {
        const auto found =
            std::find(other.elements.begin(), other.elements.end(), first.elements[k]);
        if (found != other.elements.end()) {
            const double sigma = other.sigmas.at(found - other.elements.begin());
            require_same(first.sigmas.at(k) == sigma, "Gaussian width of " + first.elements[k],
                         shortest(first.sigmas.at(k)), shortest(sigma));
        }
    }
}

void PairEquicalc::log_model(const Member &member, const std::string &path) const {
    if (comm->me != 0) {
        return;
    }
    const equicalc::ModelInfo &model = member.model->info();
    std::string text = "equicalc model " + model.name + " (" + path + ")\n  elements " +
                       joined(model.elements) + ", cutoff " + shortest(model.cutoff) +
                       " angstrom, " + std::to_string(model.n_layers) + " layers, ";
    if (model.has_charges()) {
        text += std::string(equicalc::name_of(model.charge_model)) + " charges of Gaussian width " +
                widths(model.sigmas) + " angstrom, total charge " +
                shortest(options_.total_charge / units_.charge) + " e\n";
    } else {
        text += "no charges\n";
    }
    utils::logmesg(lmp, text);
}

void PairEquicalc::log_style() const {
    if (comm->me != 0) {
        return;
    }
    std::string text;
    if (members_.size() > 1) {
        text += "  mean of " + std::to_string(members_.size()) + " models";
        text += options_.deviation_every > 0
                    ? ", deviations every " + std::to_string(options_.deviation_every) + " steps\n"
                    : "\n";
    }
    if (options_.extended_ghosts) {
        text += "  ghosts as far as " + std::to_string(depth()) +
                " cutoffs instead of an exchange between layers\n";
    }
    const auto &field = options_.field;
    if (options_.has_field()) {
        text += "  electric field " + shortest(field[0]) + " " + shortest(field[1]) + " " +
                shortest(field[2]) + ", without its part of the virial\n";
    }
    text += "  precision " + options_.precision;
    if (options_.dtype() != torch::kFloat64) {
        text += " (the network; geometry, sums of energies and Coulomb energy in float64)";
    }
    text += ", " + std::to_string(comm->nthreads) + " thread(s) per MPI rank\n";
    utils::logmesg(lmp, text);
}

void PairEquicalc::map_types(const std::vector<std::string> &elements) {
    if (static_cast<int>(elements.size()) != atom->ntypes) {
        error->all(FLERR, "pair_coeff of pair_style equicalc names " +
                              std::to_string(elements.size()) + " elements but there are " +
                              std::to_string(atom->ntypes) +
                              " atom types. After the model, type one element or NULL per type; "
                              "model '" +
                              info().name + "' knows " + joined(info().elements));
    }
    for (Member &member : members_) {
        map_types_of(member, elements);
    }
    allocate();
}

void PairEquicalc::map_types_of(Member &member, const std::vector<std::string> &elements) const {
    const equicalc::ModelInfo &model = member.model->info();
    const std::string known = joined(model.elements);
    std::vector<int64_t> from_first(info().elements.size(), 0);
    member.species_of_type.assign(atom->ntypes + 1, -1);
    for (int type = 1; type <= atom->ntypes; ++type) {
        const std::string &element = elements[type - 1];
        const auto found = std::find(model.elements.begin(), model.elements.end(), element);
        if (found != model.elements.end()) {
            const auto species = static_cast<int>(found - model.elements.begin());
            member.species_of_type[type] = species;
            from_first.at(members_.front().species_of_type[type]) = species;
        } else if (element != "NULL") {
            error->all(FLERR, "model '" + model.name + "' does not know the element '" + element +
                                  "' of atom type " + std::to_string(type) + "; it knows " + known +
                                  ". Choose one of them, or NULL for atoms without this potential");
        }
    }
    if (std::all_of(member.species_of_type.begin(), member.species_of_type.end(),
                    [](int species) { return species < 0; })) {
        error->all(FLERR,
                   "pair_coeff of pair_style equicalc maps every atom type to NULL; model '" +
                       model.name + "' knows " + known);
    }
    if (&member != &members_.front()) {
        member.species = torch::tensor(from_first, torch::kInt64);
    }
}

void PairEquicalc::allocate() {
    const int n = atom->ntypes + 1;
    if (allocated == 0) {
        memory->create(setflag, n, n, "pair:setflag");
        memory->create(cutsq, n, n, "pair:cutsq");
        memory->create(cutghost, n, n, "pair:cutghost");
        allocated = 1;
    }
    // On its own the style answers for all types; under `hybrid` not for those mapped to NULL.
    const bool alone = !utils::strmatch(force->pair_style, "^hybrid");
    const std::vector<int> &species = members_.front().species_of_type;
    for (int i = 1; i < n; ++i) {
        for (int j = 1; j < n; ++j) {
            const bool mapped = species[i] >= 0 && species[j] >= 0;
            setflag[i][j] = alone || mapped ? 1 : 0;
            cutsq[i][j] = cutghost[i][j] = 0.0;
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
        const int species = members_.front().species_of_type[atom->type[i]];
        atom->q[i] = species < 0 ? 0.0 : units_.charge * info().nominal_charges.at(species);
    }
}

void PairEquicalc::init_style() {
    if (!model_is_loaded()) {
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
    refuse_pair_energies();
    // under hybrid styles LAMMPS sizes its buffers by the hybrid style, which asked before the
    // model was known
    force->pair->comm_forward = std::max(force->pair->comm_forward, comm_forward);
    force->pair->comm_reverse = std::max(force->pair->comm_reverse, comm_reverse);
    require_centroid_virials();
    neighbor->add_request(
        this, NeighConst::REQ_FULL | (options_.extended_ghosts ? NeighConst::REQ_GHOST : 0));
    if (options_.extended_ghosts) {
        if (comm->mode != Comm::SINGLE) {
            error->all(FLERR,
                       "pair_style equicalc: 'ghosts extended' sets one cutoff for all ghosts, "
                       "found 'comm_modify mode multi'. Type 'comm_modify mode single'");
        }
        // what `comm_modify cutoff` sets
        const double reach = depth() * units_.length * info().cutoff + neighbor->skin;
        comm->cutghostuser = std::max(comm->cutghostuser, reach);
    }
    numbered_at_ = -1;
    contacts_->begin_run();
    if (!coulomb_) {
        return;
    }
    require_settings_of_charged_model();
    require_possible_field();
    refuse_other_charges();
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
    const std::vector<int> &species = members_.front().species_of_type;
    const bool mapped = species[i] >= 0 && species[j] >= 0;
    if (!mapped) {
        cutghost[i][j] = cutghost[j][i] = 0.0;
        return 0.0;
    }
    const double cutoff = units_.length * info().cutoff;
    cutghost[i][j] = cutghost[j][i] = cutoff;
    return coulomb_ ? std::max(cutoff, coulomb_->range(i, j)) : cutoff;
}

// KSPACE styles ask for `cut_coul` at the start of their init, before they look at the charges and
// at the splitting parameter. It is the only call into the pair style at that moment, so what they
// need from the model is set here; kspace_style may then come before or after pair_style.
void *PairEquicalc::extract(const char *name, int &dimension) {
    dimension = 0;
    if (std::strcmp(name, "cut_coul") != 0 || !model_is_loaded()) {
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
