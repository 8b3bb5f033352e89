// What the input deck says to the pair style: commands, checks and their messages.
#include "pair_equicalc.h"

#include "atom_graph.h"
#include "charge_constraint.h"
#include "charge_history.h"
#include "charge_watch.h"
#include "collective_error.h"
#include "committee.h"
#include "contacts.h"
#include "coulomb.h"
#include "device_graph.h"
#include "halo.h"
#include "model_locator.h"
#include "words.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "utils.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;

namespace {

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
    // LAMMPS keeps the style when its name is typed once more, and with it the coefficients.
    if (model_is_loaded()) {
        read_coefficients();
    }
}

void PairEquicalc::coeff(int narg, char **arg) {
    if (narg < 3) {
        error->all(FLERR,
                   "pair_coeff of pair_style equicalc needs a model and elements. Type 'pair_coeff "
                   "* * MODEL El1 El2 ...', for example 'pair_coeff * * kcl K Cl'");
    }
    coefficients_.assign(arg + 2, arg + narg);
    read_coefficients();
}

// With the options of pair_style: precision, device, ... of networks are those they are loaded
// with.
void PairEquicalc::read_coefficients() {
    try {
        load_coefficients();
    } catch (...) {
        members_.clear();  // scripts of Python may go on: not with half of what was typed
        throw;
    }
}

void PairEquicalc::load_coefficients() {
    units_ = Units::of_deck(lmp);
    const std::vector<std::string> &words = coefficients_;
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
    halo_ = std::make_unique<Halo>(lmp, this, *graph_, options_.device.is_staged);
    device_graph_.reset();
    steps_.reset();
    if (options_.device.is_staged) {
        device_graph_ =
            std::make_unique<DeviceGraph>(lmp, units_, info().cutoff, options_.device.device);
        if (members_.size() == 1 && equicalc::DeviceSteps::run_on(options_.device.device)) {
            steps_ = std::make_unique<equicalc::DeviceSteps>(members_.front().model);
        }
    }
    committee_ = std::make_unique<Committee>(lmp, this);
    contacts_ = std::make_unique<Contacts>(lmp, info(), options_.on_contact);
    // LAMMPS sizes its buffers once: for the widest message, and for what ghosts learn of
    // their owners.
    const auto bytes = static_cast<int64_t>(torch::elementSize(options_.dtype()));
    int64_t width = 0;
    for (const Member &member : members_) {
        width = std::max(width, member.model->info().exchange_width);
    }
    comm_reverse = Halo::buffer_size(width, bytes);
    comm_forward = std::max(Halo::kNumbersOfOwner, comm_reverse);
    if (options_.deviation_every > 0) {
        comm_reverse = std::max(3, comm_reverse);  // forces
    }
    knows_masses_ = false;
    coulomb_.reset();
    require_possible_field();
    if (info().has_charges()) {
        require_settings_of_charged_model();
        refuse_second_model_with_charges();
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
        options.device = options_.device.device;
        options.scripted = options_.device.is_staged;
        member.model = equicalc::Model::load(path, options);
        member.evaluator = std::make_unique<equicalc::Evaluator>(member.model);
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
