// The start of a run: what the pair style needs of the rest of the deck, and what others ask it
// for.
#include "pair_equicalc.h"

#include "charge_watch.h"
#include "contacts.h"
#include "coulomb.h"
#include "electric_field.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "neighbor.h"
#include "utils.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;

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
    refuse_exclusions();
    warn_of_deviations();
    if (!knows_masses_) {
        warn_of_masses();
        knows_masses_ = true;
    }
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
    has_rows_ = false;
    contacts_->begin_run();
    if (!coulomb_) {
        return;
    }
    require_settings_of_charged_model();
    require_possible_field();
    refuse_other_charges();
    refuse_tuning();
    refuse_charges_of_others();
    warn_of_fix_efield();
    field_->begin_run(field_in_volt());
    coulomb_->init_run();
    watch_->begin_run();
    if (force->kspace != nullptr) {
        refuse_strains_of_atoms();
        return;
    }
    if (domain->xperiodic != 0 || domain->yperiodic != 0 || domain->zperiodic != 0) {
        error->all(FLERR,
                   "model '" + info().name +
                       "' has charges, whose long-range energy needs a KSPACE style. Add the "
                       "line 'kspace_style equicalc 1e-5' after pair_coeff");
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
    const bool is_alone = force->pair == this;
    if (std::strcmp(name, "cut_coul") != 0 || !model_is_loaded() || (!coulomb_ && !is_alone)) {
        return nullptr;  // under hybrid styles another one may have charges
    }
    // KSPACE styles ask before init_style; who comes after it looks for a parameter to change.
    if (neighbor->find_request(this) != nullptr) {
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
