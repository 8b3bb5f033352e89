// An exception on any rank becomes error->all on every rank.
#pragma once

#include "comm.h"
#include "error.h"
#include "exceptions.h"
#include "lammps.h"

#include <exception>
#include <string>

namespace equicalc_lammps {

// Runs `action`, which must not communicate, on every rank; collective. Whichever rank fails, all
// of them stop with its message, so that none waits for the others for ever.
template <typename Action>
void run_on_all_ranks(LAMMPS_NS::LAMMPS *lmp, Action action) {
    std::string message;
    bool failed = false;
    try {
        action();
    } catch (const LAMMPS_NS::LAMMPSException &) {
        throw;
    } catch (const std::exception &exception) {
        failed = true;
        message = exception.what();
    }
    int first = failed ? lmp->comm->me : lmp->comm->nprocs;
    MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, lmp->world);
    if (first == lmp->comm->nprocs) {
        return;
    }
    auto length = static_cast<int>(message.size());
    MPI_Bcast(&length, 1, MPI_INT, first, lmp->world);
    message.resize(length);
    MPI_Bcast(message.data(), length, MPI_CHAR, first, lmp->world);
    lmp->error->all(FLERR, "pair_style equicalc: " + message);
}

}  // namespace equicalc_lammps
