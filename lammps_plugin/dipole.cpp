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

Dipole dipole_of(LAMMPS_NS::LAMMPS *lmp, const Units &units, const equicalc::ModelInfo &info,
                 std::span<const int> atoms, std::span<const int> species_of_type,
                 const torch::Tensor &variables, std::span<const double> charges) {
    const bool transferred = info.charge_model == equicalc::ChargeModel::transferred;
    const double screening = std::sqrt(info.epsilon_inf);
    const auto columns = variables.accessor<double, 2>();
    Dipole dipole;
    dipole.moved.resize(atoms.size());
    dipole.shares.resize(atoms.size());
    for (size_t row = 0; row < atoms.size(); ++row) {
        double &moved = dipole.moved[row];
        moved = screening * charges[row];
        Vector bond{};
        if (transferred) {
            const int species = species_of_type[lmp->atom->type[atoms[row]]];
            moved = static_cast<double>(info.formal_charges.at(species)) +
                    screening * (charges[row] - columns[row][0]);
            for (int axis = 0; axis < 3; ++axis) {
                bond[axis] = screening * columns[row][2 + axis];
            }
        }
        const Vector position = unwrapped(lmp, units, atoms[row]);
        for (int axis = 0; axis < 3; ++axis) {
            dipole.shares[row][axis] = moved * position[axis] + bond[axis];
        }
    }
    return dipole;
}

std::vector<double> field_potentials(LAMMPS_NS::LAMMPS *lmp, const Units &units,
                                     const equicalc::ModelInfo &info, std::span<const int> atoms,
                                     const Vector &field) {
    std::vector<double> potentials(atoms.size(), 0.0);
    if (field == Vector{}) {
        return potentials;
    }
    const double screening = std::sqrt(info.epsilon_inf);
    for (size_t row = 0; row < atoms.size(); ++row) {
        const Vector r = unwrapped(lmp, units, atoms[row]);
        potentials[row] = -screening * (r[0] * field[0] + r[1] * field[1] + r[2] * field[2]);
    }
    return potentials;
}

}  // namespace equicalc_lammps
