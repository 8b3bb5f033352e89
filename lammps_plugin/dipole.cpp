#include "dipole.h"

#include "atom.h"
#include "domain.h"
#include "lammps.h"

#include <cmath>

namespace equicalc_lammps {
namespace {

// In angstrom.
Vector unwrapped(LAMMPS_NS::LAMMPS *lmp, const Units &units, int i) {
    Vector position;
    lmp->domain->unmap(lmp->atom->x[i], lmp->atom->image[i], position.data());
    for (double &coordinate : position) {
        coordinate *= units.angstrom();
    }
    return position;
}

}  // namespace

DipoleShare DipoleOfAtoms::of(size_t row) const {
    const int i = atoms_[row];
    DipoleShare result;
    result.moved = screening_ * charges_[row];
    if (info_.charge_model == equicalc::ChargeModel::transferred) {
        const auto columns = variables_.accessor<double, 2>()[static_cast<int64_t>(row)];
        const int species = species_of_type_[lmp_->atom->type[i]];
        result.moved = static_cast<double>(info_.formal_charges.at(species)) +
                       screening_ * (charges_[row] - columns[0]);
        for (int axis = 0; axis < 3; ++axis) {
            result.bond[axis] = screening_ * columns[2 + axis];
        }
    }
    const Vector position = unwrapped(lmp_, units_, i);
    for (int axis = 0; axis < 3; ++axis) {
        result.dipole[axis] = result.moved * position[axis] + result.bond[axis];
    }
    return result;
}

std::vector<double> field_potentials(LAMMPS_NS::LAMMPS *lmp, const Units &units,
                                     const equicalc::ModelInfo &info, std::span<const int> atoms,
                                     const Vector &field) {
    if (field == Vector{}) {
        return {};
    }
    std::vector<double> potentials(atoms.size());
    const double screening = std::sqrt(info.epsilon_inf);
    for (size_t row = 0; row < atoms.size(); ++row) {
        const Vector r = unwrapped(lmp, units, atoms[row]);
        potentials[row] = -screening * (r[0] * field[0] + r[1] * field[1] + r[2] * field[2]);
    }
    return potentials;
}

}  // namespace equicalc_lammps
