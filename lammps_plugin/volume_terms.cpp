#include "volume_terms.h"

#include "atom.h"
#include "domain.h"
#include "force.h"
#include "kspace.h"
#include "lammps.h"

#include <mpi.h>

#include <numbers>

namespace equicalc_lammps {
namespace {

constexpr double kPi = std::numbers::pi;

struct Moments {
    double charge = 0.0, dipole = 0.0, second = 0.0;
};

Moments sum_moments(LAMMPS_NS::LAMMPS *lmp, const Units &units, std::span<const int> atoms,
                    std::span<const double> charges) {
    double local[3] = {0.0, 0.0, 0.0}, total[3];
    for (size_t k = 0; k < atoms.size(); ++k) {
        const double z = units.angstrom() * lmp->atom->x[atoms[k]][2];
        local[0] += charges[k];
        local[1] += charges[k] * z;
        local[2] += charges[k] * z * z;
    }
    MPI_Allreduce(local, total, 3, MPI_DOUBLE, MPI_SUM, lmp->world);
    return {total[0], total[1], total[2]};
}

}  // namespace

void add_volume_terms(LAMMPS_NS::LAMMPS *lmp, const Units &units, double splitting,
                      std::span<const int> atoms, std::span<const double> charges,
                      LongRange &result) {
    const auto *domain = lmp->domain;
    const bool slab = lmp->force->kspace->slabflag != 0;
    const double scale = units.angstrom();
    const double height = scale * domain->zprd * (slab ? lmp->force->kspace->slab_volfactor : 1.0);
    const double volume = scale * domain->xprd * scale * domain->yprd * height;
    const auto [charge, dipole, second] = sum_moments(lmp, units, atoms, charges);

    // Energies per volume factor; the virial of E ~ 1/V is E along every axis, and along z a slab
    // energy also grows with the square of the height.
    const double background = -kPi * kCoulomb / (2.0 * splitting * splitting * volume);
    const double slab_factor = slab ? 2.0 * kPi * kCoulomb / volume : 0.0;
    const double background_energy = background * charge * charge;
    const double slab_energy = slab_factor * (dipole * dipole - charge * second -
                                              charge * charge * height * height / 12.0);
    for (int axis = 0; axis < 3; ++axis) {
        result.virial[axis] += background_energy + (axis < 2 ? slab_energy : -slab_energy);
    }
    for (size_t k = 0; k < result.atom_virials.size(); ++k) {
        const double z = units.angstrom() * lmp->atom->x[atoms[k]][2];
        const double background_share = background * charges[k] * charge;
        const double slab_share =
            slab_factor * charges[k] *
            (z * dipole - 0.5 * (second + charge * z * z) - charge * height * height / 12.0);
        for (int axis = 0; axis < 3; ++axis) {
            result.atom_virials[k][axis] +=
                background_share + (axis < 2 ? slab_share : -slab_share);
        }
    }
}

}  // namespace equicalc_lammps
