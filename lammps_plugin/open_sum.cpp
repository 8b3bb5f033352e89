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
    double x[3], q, sigma;
};
constexpr int kNumbersPerCharge = sizeof(Charge) / sizeof(double);

// The charges of all ranks, in the order of the ranks.
struct Cluster {
    std::vector<Charge> all;
    size_t first = 0;  // index of this rank's first
};

Cluster gather(LAMMPS_NS::LAMMPS *lmp, const Units &units, std::span<const double> sigma_of_type,
               std::span<const int> atoms, std::span<const double> charges) {
    std::vector<Charge> local(atoms.size());
    for (size_t k = 0; k < atoms.size(); ++k) {
        const double *x = lmp->atom->x[atoms[k]];
        const double scale = units.angstrom();
        local[k] = {{scale * x[0], scale * x[1], scale * x[2]},
                    charges[k],
                    sigma_of_type[lmp->atom->type[atoms[k]]]};
    }
    const int n_ranks = lmp->comm->nprocs;
    const int count = kNumbersPerCharge * static_cast<int>(local.size());
    std::vector<int> counts(n_ranks), offsets(n_ranks, 0);
    MPI_Allgather(&count, 1, MPI_INT, counts.data(), 1, MPI_INT, lmp->world);
    for (int rank = 1; rank < n_ranks; ++rank) {
        offsets[rank] = offsets[rank - 1] + counts[rank - 1];
    }
    Cluster cluster;
    cluster.all.resize((offsets.back() + counts.back()) / kNumbersPerCharge);
    cluster.first = offsets[lmp->comm->me] / kNumbersPerCharge;
    MPI_Allgatherv(local.data(), count, MPI_DOUBLE, cluster.all.data(), counts.data(),
                   offsets.data(), MPI_DOUBLE, lmp->world);
    return cluster;
}

// erf(c r) / r and -(1/r) d/dr of it, c = 1 / sqrt(2 (s_i^2 + s_j^2)).
struct Smeared {
    double potential, field;
};

Smeared smeared_coulomb(double r, const Charge &a, const Charge &b) {
    const double c = std::sqrt(0.5 / (a.sigma * a.sigma + b.sigma * b.sigma));
    const double potential = std::erf(c * r) / r;
    const double gaussian = 2.0 * c * std::numbers::inv_sqrtpi * std::exp(-c * c * r * r);
    return {potential, (potential - gaussian) / (r * r)};
}

// Calls visit(k, own, other, d, smeared) for every atom k of this rank and every other charge,
// d = r_own - r_other.
template <typename Visit>
void for_each_pair(const Cluster &cluster, size_t n_local, Visit visit) {
    for (size_t k = 0; k < n_local; ++k) {
        const Charge &own = cluster.all[cluster.first + k];
        for (size_t index = 0; index < cluster.all.size(); ++index) {
            if (index == cluster.first + k) {
                continue;
            }
            const Charge &other = cluster.all[index];
            const double d[3] = {own.x[0] - other.x[0], own.x[1] - other.x[1],
                                 own.x[2] - other.x[2]};
            const double r = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
            visit(k, own, other, d, smeared_coulomb(r, own, other));
        }
    }
}

}  // namespace

std::vector<double> open_potentials(LAMMPS_NS::LAMMPS *lmp, const Units &units,
                                    std::span<const double> sigma_of_type,
                                    std::span<const int> atoms, std::span<const double> charges) {
    const Cluster cluster = gather(lmp, units, sigma_of_type, atoms, charges);
    std::vector<double> potentials(atoms.size(), 0.0);
    for_each_pair(
        cluster, atoms.size(),
        [&](size_t k, const Charge &, const Charge &other, const double *, const Smeared &kernel) {
            potentials[k] += kCoulomb * other.q * kernel.potential;
        });
    return potentials;
}

LongRange open_sum(LAMMPS_NS::LAMMPS *lmp, const Units &units,
                   std::span<const double> sigma_of_type, std::span<const int> atoms,
                   std::span<const double> charges, bool with_source_moments) {
    LAMMPS_NS::Atom *atom = lmp->atom;
    const Cluster cluster = gather(lmp, units, sigma_of_type, atoms, charges);
    LongRange result;
    result.potentials.assign(atoms.size(), 0.0);
    result.atom_energies.assign(atoms.size(), 0.0);
    result.atom_virials.assign(atoms.size(), {});
    result.source_moments.assign(with_source_moments ? atoms.size() : 0, {});
    for_each_pair(cluster, atoms.size(),
                  [&](size_t k, const Charge &own, const Charge &other, const double *d,
                      const Smeared &kernel) {
                      const double potential = kCoulomb * other.q * kernel.potential;
                      result.potentials[k] += potential;
                      const double strength = kCoulomb * own.q * other.q * kernel.field;
                      for (int axis = 0; axis < 3; ++axis) {
                          atom->f[atoms[k]][axis] += units.force() * strength * d[axis];
                      }
                      for (int axis = 0; axis < 3 && with_source_moments; ++axis) {
                          result.source_moments[k][axis] -= d[axis] * potential;
                      }
                      // Half of each pair belongs to each of its atoms.
                      const double products[6] = {d[0] * d[0], d[1] * d[1], d[2] * d[2],
                                                  d[0] * d[1], d[0] * d[2], d[1] * d[2]};
                      for (int component = 0; component < 6; ++component) {
                          result.atom_virials[k][component] += 0.5 * strength * products[component];
                      }
                  });
    std::fill_n(atom->q, atom->nlocal, 0.0);
    double sums[7] = {};  // energy and virial
    for (size_t k = 0; k < atoms.size(); ++k) {
        atom->q[atoms[k]] = units.charge * charges[k];
        result.atom_energies[k] = 0.5 * charges[k] * result.potentials[k];
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
