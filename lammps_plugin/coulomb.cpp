#include "coulomb.h"

#include "open_sum.h"

#include "force.h"

#include <algorithm>
#include <utility>

namespace equicalc_lammps {
namespace {

// Charges that miss their minimum by a potential of 1 V change forces by about 1 eV/angstrom.
constexpr double kToleranceOfForces = 1e-2;  // relative to the error of forces asked for
constexpr double kTightest = 1e-10, kLoosest = 2e-6;

}  // namespace

Coulomb::Coulomb(LAMMPS_NS::LAMMPS *lmp, const Units &units, std::vector<double> sigma_of_type,
                 Spread spread, KspaceCoupling::Solver solver)
    : Pointers(lmp),
      units_(units),
      sigma_of_type_(std::move(sigma_of_type)),
      spread_(std::move(spread)),
      pairs_(lmp, units, sigma_of_type_),
      kspace_(lmp, units, pairs_.widest(), std::move(solver)) {}

bool Coulomb::has_width_pairs() const { return force->kspace != nullptr && !pairs_.empty(); }

void Coulomb::init_run() {
    if (force->kspace == nullptr) {
        return;
    }
    kspace_.init_run();
    pairs_.set_accuracy(kspace_.accuracy());
}

double Coulomb::range(int type, int other) const {
    return has_width_pairs() ? units_.length * pairs_.range(type, other) : 0.0;
}

double Coulomb::tolerance() const {
    if (force->kspace == nullptr) {
        return kTightest;
    }
    const double forces = kCoulomb * kspace_.accuracy();
    return std::clamp(kToleranceOfForces * forces, kTightest, kLoosest);
}

void Coulomb::begin_step(const LAMMPS_NS::NeighList &list, std::span<const int> atoms,
                         std::span<const int> row_of_atom) {
    atoms_ = atoms;
    if (has_width_pairs()) {
        pairs_.find(list, atoms, row_of_atom);
    }
}

const LongRange &Coulomb::solve(std::span<const double> charges, int eflag, int vflag,
                                bool with_source_moments) {
    if (force->kspace == nullptr) {
        result_ = open_sum(lmp, units_, sigma_of_type_, atoms_, charges, with_source_moments);
        return result_;
    }
    kspace_.solve(atoms_, charges, eflag, vflag, with_source_moments, result_);
    if (has_width_pairs()) {
        pairs_.add(spread_(charges), atoms_, result_);
    }
    return result_;
}

std::vector<double> Coulomb::potentials(std::span<const double> charges) {
    if (force->kspace == nullptr) {
        return open_potentials(lmp, units_, sigma_of_type_, atoms_, charges);
    }
    std::vector<double> result = kspace_.potentials(atoms_, charges);
    if (has_width_pairs()) {
        pairs_.add_potentials(spread_(charges), result);
    }
    return result;
}

}  // namespace equicalc_lammps
