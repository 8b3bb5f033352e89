#include "gathered_charges.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "lammps.h"

#include <cmath>

namespace equicalc_lammps {
namespace {

constexpr int kNumbers = 4;  // per atom

}  // namespace

void GatheredCharges::gather(LAMMPS_NS::LAMMPS *lmp, const Units &units) {
    const auto *atom = lmp->atom;
    const auto *comm = lmp->comm;
    const double *corner = lmp->domain->boxlo;
    const double angstrom = units.angstrom(), charge = 1.0 / units.charge;
    own_.clear();
    packed_.clear();
    for (int i = 0; i < atom->nlocal; ++i) {
        if (atom->q[i] != 0.0) {
            own_.push_back(i);
            for (int axis = 0; axis < 3; ++axis) {
                packed_.push_back(angstrom * (atom->x[i][axis] - corner[axis]));
            }
            packed_.push_back(charge * atom->q[i]);
        }
    }
    const auto n_own = static_cast<int>(packed_.size());
    counts_.assign(comm->nprocs, n_own);
    starts_.assign(comm->nprocs, 0);
    const std::vector<double> *all = &packed_;
    if (comm->nprocs > 1) {
        MPI_Allgather(&n_own, 1, MPI_INT, counts_.data(), 1, MPI_INT, lmp->world);
        for (int rank = 1; rank < comm->nprocs; ++rank) {
            starts_[rank] = starts_[rank - 1] + counts_[rank - 1];
        }
        all_.resize(starts_.back() + counts_.back());
        MPI_Allgatherv(packed_.data(), n_own, MPI_DOUBLE, all_.data(), counts_.data(),
                       starts_.data(), MPI_DOUBLE, lmp->world);
        all = &all_;
    }
    first_ = static_cast<std::size_t>(starts_[comm->me] / kNumbers);
    const std::size_t n = all->size() / kNumbers;
    positions_.resize(3 * n);
    charges_.resize(n);
    double zero = 0.0;  // NaN where a number is not finite
    for (std::size_t k = 0; k < n; ++k) {
        const double *from = all->data() + kNumbers * k;
        for (std::size_t axis = 0; axis < 3; ++axis) {
            positions_[3 * k + axis] = from[axis];
        }
        charges_[k] = from[3];
        zero += 0.0 * (from[0] + from[1] + from[2] + from[3]);
    }
    is_finite_ = zero == 0.0;
}

std::size_t GatheredCharges::memory_bytes() const {
    const std::size_t numbers =
        packed_.capacity() + all_.capacity() + positions_.capacity() + charges_.capacity();
    return sizeof(double) * numbers + sizeof(int) * own_.capacity();
}

}  // namespace equicalc_lammps
