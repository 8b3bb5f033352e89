#include "open_sum.h"

#include "atom.h"
#include "comm.h"
#include "lammps.h"

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace equicalc_lammps {
namespace {

struct Charge {
    double x[3], q;
};

// The charges of all ranks, in the order of the ranks; `first` is the index of this rank's first.
std::vector<Charge> gather(LAMMPS_NS::LAMMPS *lmp, const std::vector<Charge> &local, int &first) {
    const int n_ranks = lmp->comm->nprocs;
    const int count = 4 * static_cast<int>(local.size());
    std::vector<int> counts(n_ranks), offsets(n_ranks, 0);
    MPI_Allgather(&count, 1, MPI_INT, counts.data(), 1, MPI_INT, lmp->world);
    for (int rank = 1; rank < n_ranks; ++rank) {
        offsets[rank] = offsets[rank - 1] + counts[rank - 1];
    }
    std::vector<Charge> all((offsets.back() + counts.back()) / 4);
    MPI_Allgatherv(local.data(), count, MPI_DOUBLE, all.data(), counts.data(), offsets.data(),
                   MPI_DOUBLE, lmp->world);
    first = offsets[lmp->comm->me] / 4;
    return all;
}

// erf(r / (2 sigma)) / r and -(1/r) d/dr of it.
struct Smeared {
    double potential, field;
};

Smeared smeared_coulomb(double r, double sigma) {
    const double g = 1.0 / (2.0 * sigma);
    const double potential = std::erf(g * r) / r;
    const double gaussian = 2.0 * g * std::numbers::inv_sqrtpi * std::exp(-g * g * r * r);
    return {potential, (potential - gaussian) / (r * r)};
}

}  // namespace

LongRange open_sum(LAMMPS_NS::LAMMPS *lmp, double sigma, std::span<const int> atoms,
                   std::span<const double> charges) {
    LAMMPS_NS::Atom *atom = lmp->atom;
    std::fill_n(atom->q, atom->nlocal, 0.0);
    std::vector<Charge> local(atoms.size());
    for (size_t k = 0; k < atoms.size(); ++k) {
        const double *x = atom->x[atoms[k]];
        local[k] = {{x[0], x[1], x[2]}, charges[k]};
        atom->q[atoms[k]] = charges[k];
    }
    int first = 0;
    const std::vector<Charge> all = gather(lmp, local, first);

    LongRange result;
    result.potentials.assign(atoms.size(), 0.0);
    result.atom_energies.assign(atoms.size(), 0.0);
    result.atom_virials.assign(atoms.size(), {});
    double sums[7] = {};  // energy and virial
    for (size_t k = 0; k < atoms.size(); ++k) {
        const Charge &own = local[k];
        double *force = atom->f[atoms[k]];
        for (size_t other = 0; other < all.size(); ++other) {
            if (other == static_cast<size_t>(first) + k) {
                continue;
            }
            const double d[3] = {own.x[0] - all[other].x[0], own.x[1] - all[other].x[1],
                                 own.x[2] - all[other].x[2]};
            const double r = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
            const auto [potential, field] = smeared_coulomb(r, sigma);
            result.potentials[k] += kCoulomb * all[other].q * potential;
            const double strength = kCoulomb * own.q * all[other].q * field;
            for (int axis = 0; axis < 3; ++axis) {
                force[axis] += strength * d[axis];
            }
            // Half of each pair belongs to each of its atoms.
            const double products[6] = {d[0] * d[0], d[1] * d[1], d[2] * d[2],
                                        d[0] * d[1], d[0] * d[2], d[1] * d[2]};
            for (int component = 0; component < 6; ++component) {
                result.atom_virials[k][component] += 0.5 * strength * products[component];
            }
        }
        result.atom_energies[k] = 0.5 * own.q * result.potentials[k];
        sums[0] += result.atom_energies[k];
        for (int component = 0; component < 6; ++component) {
            sums[1 + component] += result.atom_virials[k][component];
        }
    }
    double totals[7];
    MPI_Allreduce(sums, totals, 7, MPI_DOUBLE, MPI_SUM, lmp->world);
    result.energy = totals[0];
    std::copy_n(totals + 1, 6, result.virial.begin());
    return result;
}

}  // namespace equicalc_lammps
