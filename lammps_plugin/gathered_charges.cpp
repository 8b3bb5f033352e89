#include "gathered_charges.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "lammps.h"

#include <mpi.h>

namespace equicalc_lammps {
namespace {

// Each rank has its part in place, `width` numbers per atom.
void share(MPI_Comm world, std::vector<double> &values, std::vector<int> counts,
           std::vector<int> starts, int width) {
    for (std::size_t rank = 0; rank < counts.size(); ++rank) {
        counts[rank] *= width;
        starts[rank] *= width;
    }
    MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values.data(), counts.data(), starts.data(),
                   MPI_DOUBLE, world);
}

}  // namespace

void GatheredCharges::gather(LAMMPS_NS::LAMMPS *lmp, const Units &units) {
    const auto *atom = lmp->atom;
    const auto *comm = lmp->comm;
    own_.clear();
    for (int i = 0; i < atom->nlocal; ++i) {
        if (atom->q[i] != 0.0) {
            own_.push_back(i);
        }
    }
    const auto n_own = static_cast<int>(own_.size());
    counts_.assign(comm->nprocs, n_own);
    starts_.assign(comm->nprocs, 0);
    MPI_Allgather(&n_own, 1, MPI_INT, counts_.data(), 1, MPI_INT, lmp->world);
    for (int rank = 1; rank < comm->nprocs; ++rank) {
        starts_[rank] = starts_[rank - 1] + counts_[rank - 1];
    }
    first_ = static_cast<std::size_t>(starts_[comm->me]);
    const auto n = static_cast<std::size_t>(starts_.back() + counts_.back());
    positions_.resize(3 * n);
    charges_.resize(n);

    const double angstrom = units.angstrom(), charge = 1.0 / units.charge;
    const double *corner = lmp->domain->boxlo;
    std::size_t k = first_;
    for (const int i : own_) {
        for (int axis = 0; axis < 3; ++axis) {
            positions_[3 * k + axis] = angstrom * (atom->x[i][axis] - corner[axis]);
        }
        charges_[k++] = charge * atom->q[i];
    }
    if (comm->nprocs > 1) {
        share(lmp->world, positions_, counts_, starts_, 3);
        share(lmp->world, charges_, counts_, starts_, 1);
    }
}

bool GatheredCharges::is_finite() const {
    double zero = 0.0;  // NaN where a number is none
    for (const std::vector<double> *values : {&positions_, &charges_}) {
        const double *first = values->data();
        const std::size_t n = values->size();
#pragma omp simd reduction(+ : zero)
        for (std::size_t k = 0; k < n; ++k) {
            zero += 0.0 * first[k];
        }
    }
    return zero == 0.0;
}

std::size_t GatheredCharges::memory_bytes() const {
    return sizeof(double) * (positions_.capacity() + charges_.capacity()) +
           sizeof(int) * own_.capacity();
}

}  // namespace equicalc_lammps
