// An exception on any rank becomes error->all on every rank.
#pragma once

#include "comm.h"
#include "error.h"
#include "exceptions.h"
#include "lammps.h"
#include "update.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

namespace equicalc_lammps {

// Numbers that are not finite spread over ranks; where two atoms were closest it is likely to have
// begun.
struct NotFinite : std::runtime_error {
    NotFinite(const std::string &text, double closest)
        : std::runtime_error(text), distance(closest) {}
    double distance;  // angstrom
};

// The text of one rank on all ranks; collective.
inline std::string text_of_rank(LAMMPS_NS::LAMMPS *lmp, int rank, std::string text) {
    auto length = static_cast<int>(text.size());
    MPI_Bcast(&length, 1, MPI_INT, rank, lmp->world);
    text.resize(length);
    MPI_Bcast(text.data(), length, MPI_CHAR, rank, lmp->world);
    return text;
}

// Whether an exception is of the system, of torch on the CPU or of torch on a GPU for lack of
// memory.
inline bool is_out_of_memory(const std::exception &exception) {
    const std::string text = exception.what();
    return dynamic_cast<const std::bad_alloc *>(&exception) != nullptr ||
           text.find("bad_alloc") != std::string::npos ||
           text.find("allocate memory") != std::string::npos ||
           text.find("ut of memory") != std::string::npos;
}

// What an exception says, and what to do where memory is short; `load` is what filled it.
inline std::string text_of(const std::exception &exception, const std::string &load = "") {
    const std::string text = exception.what();
    return is_out_of_memory(exception) ? "out of memory" + load +
                                             ". Take fewer atoms per rank: more ranks on other "
                                             "machines, or a smaller cell; "
                                             "or type 'pair_style equicalc precision float32' (" +
                                             text + ")"
                                       : text;
}

// Where a run is, for messages.
inline std::string step_and_rank(LAMMPS_NS::LAMMPS *lmp) {
    return "at step " + std::to_string(lmp->update->ntimestep) + " on rank " +
           std::to_string(lmp->comm->me);
}

// Runs `action`, which must not communicate, on every rank; collective. Whichever rank fails, all
// of them stop with its message, so that none waits for the others for ever.
template <typename Action>
void run_on_all_ranks(LAMMPS_NS::LAMMPS *lmp, Action action,
                      const std::function<std::string()> &load = {}) {
    std::string message;
    constexpr double kFine = std::numeric_limits<double>::infinity();
    double order = kFine;
    try {
        action();
    } catch (const LAMMPS_NS::LAMMPSException &) {
        throw;
    } catch (const NotFinite &exception) {
        order = std::min(exception.distance, std::numeric_limits<double>::max());
        message = exception.what();
    } catch (const std::exception &exception) {
        order = -1.0;
        message = text_of(exception, load ? load() : "");
    }
    double lowest = order;
    MPI_Allreduce(MPI_IN_PLACE, &lowest, 1, MPI_DOUBLE, MPI_MIN, lmp->world);
    if (lowest < kFine) {
        int first = order == lowest ? lmp->comm->me : lmp->comm->nprocs;
        MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, lmp->world);
        lmp->error->all(FLERR, "pair_style equicalc: " + text_of_rank(lmp, first, message));
    }
}

}  // namespace equicalc_lammps
