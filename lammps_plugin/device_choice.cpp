#include "device_choice.h"

#include "comm.h"
#include "error.h"
#include "lammps.h"
#include "universe.h"

#include <ATen/Version.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <mpi.h>

namespace equicalc_lammps {
namespace {

// Place of this rank among those of its machine. The partitions of a run begin at different places,
// so that they do not all take the first GPU.
int place_on_machine(LAMMPS_NS::LAMMPS *lmp) {
    MPI_Comm machine;
    MPI_Comm_split_type(lmp->world, MPI_COMM_TYPE_SHARED, lmp->comm->me, MPI_INFO_NULL, &machine);
    int place = 0;
    MPI_Comm_rank(machine, &place);
    MPI_Comm_free(&machine);
    return place + lmp->universe->root_proc[lmp->universe->iworld];
}

void refuse(LAMMPS_NS::LAMMPS *lmp, const std::string &style) {
    const std::string found = style + ": found 'device cuda', but ";
    const std::string otherwise =
        "type 'device cpu', or 'device auto', which takes a GPU where one can be used";
    if (at::show_config().find("CUDA Runtime") == std::string::npos) {
        lmp->error->all(FLERR, found +
                                   "torch " TORCH_VERSION
                                   " here is built without CUDA. Install a CUDA build of torch and "
                                   "equicalc once more with it, on a machine with nvcc; or " +
                                   otherwise);
    }
    lmp->error->all(FLERR, found +
                               "torch " TORCH_VERSION
                               " sees no GPU on one of the ranks. Look at 'nvidia-smi' and at "
                               "CUDA_VISIBLE_DEVICES there; or " +
                               otherwise);
}

}  // namespace

bool names_device(const std::string &word) {
    return word == "cpu" || word == "cuda" || word == "auto" || word == "staged";
}

DeviceChoice choose_device(LAMMPS_NS::LAMMPS *lmp, const std::string &word,
                           const std::string &style) {
    DeviceChoice choice;
    choice.is_staged = word == "staged";
    if (word == "cpu" || word == "staged") {
        return choice;
    }
    // The same on all ranks: the steps of both ways differ in their communication.
    int n_gpus = static_cast<int>(torch::cuda::device_count()), fewest = 0;
    MPI_Allreduce(&n_gpus, &fewest, 1, MPI_INT, MPI_MIN, lmp->world);
    if (fewest > 0) {
        choice.device = torch::Device(
            torch::kCUDA, static_cast<c10::DeviceIndex>(place_on_machine(lmp) % n_gpus));
        choice.is_staged = true;
    } else if (word == "cuda") {
        refuse(lmp, style);
    }
    return choice;
}

}  // namespace equicalc_lammps
