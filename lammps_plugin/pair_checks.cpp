// What the pair style cannot do together with other commands of the deck, and what to type instead.
#include "pair_equicalc.h"

#include "dipole.h"
#include "words.h"

#include "atom.h"
#include "comm.h"
#include "compute.h"
#include "domain.h"
#include "error.h"
#include "fix.h"
#include "force.h"
#include "group.h"
#include "kspace.h"
#include "modify.h"
#include "neighbor.h"
#include "utils.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;

namespace {

// Opens a protected member: the group whose atoms alone become ghosts.
struct GroupOfGhosts : Comm {
    static int of(Comm *comm) { return comm->*(&GroupOfGhosts::bordergroup); }
};

}  // namespace

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
    // Of the two only the pair style of KOKKOS tells the other where charges and forces are.
    if (force->kspace != nullptr && force->kspace->execution_space != Host && kokkosable == 0) {
        error->all(FLERR, std::string("kspace_style ") + force->kspace_style +
                              " works on KOKKOS' own copy of the atoms, which pair_style equicalc "
                              "does not know. Type 'pair_style equicalc/kk', or 'suffix off' "
                              "before 'kspace_style pppm 1e-5'");
    }
}

void PairEquicalc::require_possible_field() const {
    if (!options_.has_field()) {
        return;
    }
    const auto &field = options_.field;
    const std::string found = "found 'efield " + shortest(field[0]) + " " + shortest(field[1]) +
                              " " + shortest(field[2]) + "', but ";
    if (!info().has_charges()) {
        error->all(FLERR, found + "model '" + info().name +
                              "' has no charges. Remove it: type 'pair_style equicalc'");
    }
    const bool polar = info().charge_model == equicalc::ChargeModel::fixed ||
                       info().charge_model == equicalc::ChargeModel::transferred;
    // Rows of h: the cell vectors (xprd, 0, 0), (xy, yprd, 0), (xz, yz, zprd).
    const double *h = domain->h;
    const double along[3] = {h[0] * field[0], h[5] * field[0] + h[1] * field[1],
                             h[4] * field[0] + h[3] * field[1] + h[2] * field[2]};
    const int periodic[3] = {domain->xperiodic, domain->yperiodic, domain->zperiodic};
    for (int k = 0; k < 3 && !polar; ++k) {
        if (periodic[k] != 0 && std::abs(along[k]) > 1e-12 * units_.field * units_.length) {
            error->all(FLERR, found + equicalc::name_of(info().charge_model) +
                                  " charges have no polarisation along the periodic direction " +
                                  "xyz"[k] +
                                  ". Type 'boundary f f f' for a cluster, or use a "
                                  "model with charge_model: fixed or transferred");
        }
    }
}

void PairEquicalc::warn_of_fix_efield() const {
    for (const Fix *fix : modify->get_fix_list()) {
        if (utils::strmatch(fix->style, "^efield") && comm->me == 0) {
            error->warning(FLERR, std::string("fix ") + fix->id +
                                      " (efield) leaves out how the charges of the model respond. "
                                      "Type 'pair_style equicalc efield Ex Ey Ez' instead");
        }
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

// Charges are results of the model: whoever else sets them would be overruled at every step.
void PairEquicalc::refuse_other_charges() const {
    constexpr std::array<const char *, 5> setters{"^qeq", "^acks2", "^qtpie", "^electrode",
                                                  "^charge/regulation"};
    for (const Fix *fix : modify->get_fix_list()) {
        const bool sets_charges = std::any_of(
            setters.begin(), setters.end(),
            [fix](const char *pattern) { return utils::strmatch(fix->style, pattern) != 0; });
        if (sets_charges) {
            error->all(FLERR, std::string("fix ") + fix->id + " (" + fix->style +
                                  ") sets the charges of atoms, which model '" + info().name +
                                  "' predicts itself. Type 'unfix " + fix->id +
                                  "'; a model with charge_model: equilibrated equilibrates them");
        }
    }
}

// It would type names of other pair styles for the solvers that it tries.
void PairEquicalc::refuse_tuning() const {
    for (const Fix *fix : modify->get_fix_by_style("^tune/kspace")) {
        error->all(FLERR, std::string("fix ") + fix->id +
                              " (tune/kspace) needs a pair style with a Coulomb cutoff of its own. "
                              "Type 'unfix " +
                              fix->id + "', and 'kspace_style equicalc 1e-5' for the fastest sum");
    }
}

// The model and its Coulomb sum leave them out, and KSPACE styles would sum them with those of the
// model.
void PairEquicalc::refuse_charges_of_others() const {
    const std::vector<int> &species = members_.front().species_of_type;
    int type = 0;
    for (int i = 0; i < atom->nlocal; ++i) {
        if (species[atom->type[i]] < 0 && atom->q[i] != 0.0) {
            type = std::max(type, atom->type[i]);
        }
    }
    MPI_Allreduce(MPI_IN_PLACE, &type, 1, MPI_INT, MPI_MAX, world);
    if (type > 0 && force->kspace != nullptr) {
        error->all(FLERR, "atoms of type " + std::to_string(type) +
                              " have charges, but pair_coeff maps the type to NULL: only charges "
                              "of model '" +
                              info().name + "' are summed. Type 'set type " + std::to_string(type) +
                              " charge 0.0' before 'run', or name its element in pair_coeff");
    }
}

void PairEquicalc::compute_inner() {
    error->all(FLERR,
               "pair_style equicalc has no inner, middle and outer part: its energies belong to "
               "whole neighbourhoods. Type 'pair' and one level instead, for example 'run_style "
               "respa 2 4 bond 1 pair 2'");
}

// See pair_heat.cpp.
void PairEquicalc::require_centroid_virials() const {
    const auto computes = [this](const char *pattern) {
        return modify->get_compute_by_style(pattern);
    };
    if (!computes("^heat/flux").empty() && computes("^centroid/stress/atom").empty() &&
        comm->me == 0) {
        error->warning(FLERR,
                       "compute heat/flux with the six numbers of stress/atom is not the energy "
                       "current of pair_style equicalc. Type 'compute ID all centroid/stress/atom "
                       "NULL virial' and give its ID to heat/flux");
    }
    for (const Compute *compute : computes("^centroid/stress/atom")) {
        const std::string found =
            std::string("compute ") + compute->id + " (" + compute->style + "): ";
        if (depth() > 1 && !options_.extended_ghosts) {
            error->all(FLERR, found + "energies of model '" + info().name + "' reach over " +
                                  std::to_string(depth()) +
                                  " cutoffs, which one atom's virial needs to see at once. Type "
                                  "'pair_style equicalc ghosts extended'");
        }
        if (charges_respond()) {
            require_heat_of_charges(found, compute->id);
        }
    }
}

void PairEquicalc::require_heat_of_charges(const std::string &found, const std::string &id) const {
    const std::string charges =
        found + "charges that respond to their surroundings (charge_model: " +
        equicalc::name_of(info().charge_model) + ") carry energy over long distances, ";
    const KSpace *kspace = force->kspace;
    if (kspace != nullptr && dynamic_cast<const KnowsSourceMoments *>(kspace) == nullptr) {
        error->all(FLERR, charges + "for which kspace_style " + force->kspace_style +
                              " has no number per atom. Type 'kspace_style equicalc 1e-5'");
    }
    if (kspace != nullptr && kspace->slabflag != 0) {
        error->all(FLERR, charges +
                              "for which 'kspace_modify slab' has no correction. Type 'boundary p "
                              "p p' with the vacuum in the box, or 'uncompute " +
                              id + "'");
    }
    if (options_.has_field()) {
        error->all(FLERR, charges +
                              "and do work in 'efield', whose current is not known here. "
                              "Type 'pair_style equicalc' without 'efield', or 'uncompute " +
                              id + "'");
    }
}

// Energies of neighbourhoods are not sums over pairs.
void PairEquicalc::refuse_pair_energies() const {
    constexpr std::array<const char *, 2> users{"^group/group", "^pair/local"};
    for (const Compute *compute : modify->get_compute_list()) {
        const bool needs_pairs =
            std::any_of(users.begin(), users.end(), [compute](const char *pattern) {
                return utils::strmatch(compute->style, pattern) != 0;
            });
        if (needs_pairs) {
            error->all(FLERR,
                       std::string("compute ") + compute->id + " (" + compute->style +
                           ") needs the energies of pairs of atoms, but those of pair_style "
                           "equicalc belong to whole neighbourhoods. Type 'uncompute " +
                           compute->id +
                           "'; 'compute ID all pe/atom' gives energies of atoms, and the energy "
                           "between groups is a difference of runs with and without one of them");
        }
    }
}

// They strain positions of atoms and ghosts, but not the box, in which KSPACE sums the charges.
void PairEquicalc::refuse_strains_of_atoms() const {
    const auto refuse = [this](const std::string &kind, const char *id, const char *style) {
        error->all(FLERR, kind + " " + id + " (" + style +
                              ") strains the positions of atoms but not the box, in which the "
                              "charges of model '" +
                              info().name + "' are summed: its numbers would be wrong. Type 'un" +
                              kind + " " + id +
                              "'; differences of the pressure between 'change_box all x scale "
                              "1.001 remap' and 'change_box all x scale 0.999 remap' are right");
    };
    for (const Fix *fix : modify->get_fix_by_style("^numdiff/virial")) {
        refuse("fix", fix->id, fix->style);
    }
    for (const Compute *compute : modify->get_compute_by_style("^born/matrix")) {
        refuse("compute", compute->id, compute->style);
    }
}

// Atoms have one charge each, KSPACE styles one width and no idea of whose charges they sum.
void PairEquicalc::refuse_second_model_with_charges() const {
    const Pair *pair = nullptr, *previous = nullptr;
    for (int k = 1; (pair = force->pair_match("^equicalc", 0, k)) != nullptr; ++k) {
        if (pair == previous) {
            break;  // a style that is alone is found for any k
        }
        previous = pair;
        const auto *other = dynamic_cast<const PairEquicalc *>(pair);
        if (other != nullptr && other != this && other->coulomb_) {
            error->all(FLERR,
                       "pair_style equicalc: found two models with charges under '" +
                           std::string(force->pair_style) + "', '" + other->info().name +
                           "' and '" + info().name +
                           "'. Type 'pair_style equicalc' and 'pair_coeff * * MODEL MODEL El1 "
                           "...' for their mean; for one of them 'equicalc' is named once");
        }
    }
}

// Without the pairs that are left out, atoms would have other surroundings than they have.
void PairEquicalc::refuse_exclusions() const {
    const std::vector<int> &species = members_.front().species_of_type;
    // Described atoms in a group, or not in it; fixes of the kind of gcmc exclude one that is
    // empty.
    const auto any_is = [&](bool inside, int bit) {
        int found = 0;
        for (int i = 0; i < atom->nlocal; ++i) {
            found |= ((atom->mask[i] & bit) != 0) == inside && species[atom->type[i]] >= 0 ? 1 : 0;
        }
        MPI_Allreduce(MPI_IN_PLACE, &found, 1, MPI_INT, MPI_MAX, world);
        return found != 0;
    };
    const auto any_of = [&](int bit) { return any_is(true, bit); };
    const int included = neighbor->includegroup;
    if (included != 0 && any_is(false, group->bitmask[included])) {
        error->all(FLERR,
                   std::string("pair_style equicalc: found 'neigh_modify include ") +
                       group->names[included] +
                       "', which leaves atoms of the model without neighbours, energy and "
                       "charge. Leave that line out; 'fix ID GROUP setforce 0 0 0' holds atoms in "
                       "their places");
    }
    const int sent = GroupOfGhosts::of(comm);
    if (sent != 0 && any_is(false, group->bitmask[sent])) {
        error->all(FLERR, std::string("pair_style equicalc: found 'comm_modify group ") +
                              group->names[sent] +
                              "', which leaves out ghosts of atoms of the model: their neighbours "
                              "across boundaries would not see them. Type 'comm_modify group all'");
    }
    std::string found;
    for (int k = 0; k < neighbor->nex_type; ++k) {
        const int a = neighbor->ex1_type[k], b = neighbor->ex2_type[k];
        if (species[a] >= 0 && species[b] >= 0) {
            found = "type " + std::to_string(a) + " " + std::to_string(b);
        }
    }
    for (int k = 0; k < neighbor->nex_group; ++k) {
        const int a = neighbor->ex1_group[k], b = neighbor->ex2_group[k];
        if (any_of(group->bitmask[a]) && any_of(group->bitmask[b])) {
            found = std::string("group ") + group->names[a] + " " + group->names[b];
        }
    }
    for (int k = 0; k < neighbor->nex_mol; ++k) {
        const int a = neighbor->ex_mol_group[k];
        if (any_of(group->bitmask[a])) {
            found = std::string(neighbor->ex_mol_intra[k] != 0 ? "molecule/intra "
                                                               : "molecule/inter ") +
                    group->names[a];
        }
    }
    if (!found.empty()) {
        error->all(FLERR,
                   "pair_style equicalc: found 'neigh_modify exclude " + found +
                       "', but energies belong to whole neighbourhoods, also around atoms that do "
                       "not move. Type 'neigh_modify exclude none'; 'fix ID GROUP setforce 0 0 0' "
                       "holds atoms in their places");
    }
}

// Zeros in place of deviations look like models that agree.
void PairEquicalc::warn_of_deviations() const {
    if (members_.size() == 1 || options_.deviation_every > 0 || comm->me != 0) {
        return;
    }
    for (const Compute *compute : modify->get_compute_by_style("^pair$")) {
        if (compute->size_vector != nextra) {
            continue;  // of another style under hybrid
        }
        const std::string id = compute->id;
        error->warning(FLERR, "compute " + id + " (pair): c_" + id +
                                  "[5-7] are zero, deviations of the models are computed only when "
                                  "asked for. Type 'pair_style equicalc deviation 10'");
    }
}
