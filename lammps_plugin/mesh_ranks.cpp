#include "mesh_ranks.h"

#include "collective_error.h"

#include "comm.h"

#include <mpi.h>

#include <algorithm>
#include <numeric>

namespace equicalc_lammps {
namespace {

void starts_of(const std::vector<int> &counts, std::vector<int> &starts) {
    starts.resize(counts.size());
    std::exclusive_scan(counts.begin(), counts.end(), starts.begin(), 0);
}

}  // namespace

int RanksOfMesh::rank() const { return lmp_->comm->me; }

int RanksOfMesh::size() const { return lmp_->comm->nprocs; }

void RanksOfMesh::run(const std::function<void()> &action) { run_on_all_ranks(lmp_, action); }

void RanksOfMesh::exchange(const void *send, const std::vector<int> &n_sent, void *receive,
                           const std::vector<int> &n_received, bool single) {
    const MPI_Datatype type = single ? MPI_FLOAT : MPI_DOUBLE;
    starts_of(n_sent, sent_at_);
    starts_of(n_received, received_at_);
    MPI_Alltoallv(send, n_sent.data(), sent_at_.data(), type, receive, n_received.data(),
                  received_at_.data(), type, lmp_->world);
}

void RanksOfMesh::sum(std::vector<double> &values) {
    if (size() > 1) {
        MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_DOUBLE,
                      MPI_SUM, lmp_->world);
    }
}

// Not MPI_IN_PLACE: MPICH 5.0 copies between parts that overlap and stops (seen above 512 kB).
void RanksOfMesh::sum_for_owners(std::vector<double> &values, int width) {
    if (size() > 1) {
        counts_ = charges_.counts();
        for (int &count : counts_) {
            count *= width;
        }
        own_.resize(counts_[rank()]);
        MPI_Reduce_scatter(values.data(), own_.data(), counts_.data(), MPI_DOUBLE, MPI_SUM,
                           lmp_->world);
        std::copy(own_.begin(), own_.end(), values.begin());
    }
}

}  // namespace equicalc_lammps
