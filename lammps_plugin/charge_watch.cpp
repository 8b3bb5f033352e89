#include "charge_watch.h"

#include "atom.h"
#include "compute.h"
#include "error.h"
#include "fix.h"
#include "modify.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace equicalc_lammps {
namespace {

// Sums over ranks in another order differ by less.
constexpr double kRounding = 1e-10;

// Trial moves of these change charges together with atoms, and take them back.
constexpr std::array<const char *, 4> kTrials{"^gcmc", "^widom", "swap$", "^sgcmc"};

}  // namespace

void ChargeWatch::begin_run() {
    suspects_.clear();
    remedy_.clear();
    const auto suspect = [this](const std::string &kind, const char *id, const char *style) {
        suspects_ += (suspects_.empty() ? "" : ", ") + kind + " " + id + " (" + style + ")";
        remedy_ += std::string(remedy_.empty() ? "" : ", ") + "'un" + kind + " " + id + "'";
    };
    for (const LAMMPS_NS::Fix *fix : modify->get_fix_list()) {
        if (LAMMPS_NS::utils::strmatch(fix->style, "^adapt") ||
            LAMMPS_NS::utils::strmatch(fix->style, "^set$")) {
            suspect("fix", fix->id, fix->style);
        }
    }
    has_trials_ = std::any_of(kTrials.begin(), kTrials.end(), [this](const char *style) {
        return !modify->get_fix_by_style(style).empty();
    });
    for (const LAMMPS_NS::Compute *compute : modify->get_compute_by_style("^fep$")) {
        suspect("compute", compute->id, compute->style);
    }
    end_step();
}

void ChargeWatch::begin_step() const {
    // Who adds or deletes atoms changes the sum, too.
    const bool may_be_trial = has_trials_ && update->setupflag == 0;
    if (suspects_.empty() || may_be_trial || atom->natoms != atoms_left_) {
        return;
    }
    if (std::abs(sum_of_squares() - left_) > kRounding * left_) {
        error->all(FLERR, suspects_ + ": at step " + std::to_string(update->ntimestep) +
                              " charges of atoms were changed, which model '" + model_ +
                              "' predicts itself and would overrule. Type " + remedy_ +
                              ", or leave 'charge' out of it");
    }
}

void ChargeWatch::end_step() {
    if (!suspects_.empty()) {
        left_ = sum_of_squares();
        atoms_left_ = atom->natoms;
    }
}

double ChargeWatch::sum_of_squares() const {
    double sum = 0.0;
    for (int i = 0; i < atom->nlocal; ++i) {
        sum += atom->q[i] * atom->q[i];
    }
    MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_DOUBLE, MPI_SUM, world);
    return sum;
}

}  // namespace equicalc_lammps
