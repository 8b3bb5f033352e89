// The mesh of kspace_style equicalc: spline, points, device and precision for an accuracy.
#include "kspace_equicalc.h"

#include "pair_equicalc.h"
#include "words.h"

#include "cuda/launch.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "utils.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;

namespace {

// Rounding of meshes in float32, as an accuracy of meshes (mesh_choice.h): below it their forces
// would not be what was asked for.
constexpr double kSingleReaches = 5e-6;

const DeviceChoice &where_kernels_are(const DeviceChoice &wanted) {
    static const DeviceChoice host;
    return wanted.device.is_cuda() && !equicalc::groups::Available::on_cuda ? host : wanted;
}

}  // namespace

equicalc::MeshWish KSpaceEquicalc::wish_for(double sigma) const {
    const std::array<double, 9> box = cell();
    equicalc::MeshWish wish;
    for (size_t a = 0; a < 3; ++a) {
        wish.lengths[a] = std::hypot(box[3 * a], box[3 * a + 1], box[3 * a + 2]) / sigma;
    }
    wish.volume = box[0] * box[4] * box[8] / (sigma * sigma * sigma);
    // those of no element have no charge
    bigint charged = 0;
    for (int i = 0; i < atom->nlocal; ++i) {
        charged += atom->q[i] != 0.0 ? 1 : 0;
    }
    MPI_Allreduce(MPI_IN_PLACE, &charged, 1, MPI_LMP_BIGINT, MPI_SUM, world);
    wish.n_atoms = static_cast<double>(charged);
    wish.order = order;
    if (gridflag != 0) {
        wish.points = {nx_pppm, ny_pppm, nz_pppm};
    }
    return wish;
}

// rms error of forces on a mesh of this accuracy, eV/angstrom. Charges of a slab see each other and
// not the vacuum above them.
double KSpaceEquicalc::force_error_of(const equicalc::MeshWish &wish, double accuracy) const {
    const double sigma = 1.0 / (2.0 * g_ewald * units_.length);
    const double volume = wish.volume / (slabflag != 0 ? slab_volfactor : 1.0) * std::pow(sigma, 3);
    const double n_atoms = std::max(wish.n_atoms, 1.0);
    const double squares = qsqsum / (units_.charge * units_.charge);
    // nobody knows what charges that are zero at the start will be
    const double mean_square = squares > 0.0 ? squares / n_atoms : 1.0;
    return equicalc::mesh_force_error(accuracy, mean_square, n_atoms / volume, sigma);
}

equicalc::MeshOptions KSpaceEquicalc::choose_mesh(const PairEquicalc &pair) {
    const DeviceChoice &device = device_ ? *device_ : where_kernels_are(pair.options().device);
    if (device.device.is_cuda() && !equicalc::groups::Available::on_cuda) {
        error->all(FLERR,
                   "kspace_style equicalc: found 'device cuda', but equicalc here is built without "
                   "kernels for GPUs. Install it once more on a machine with nvcc; or type 'device "
                   "cpu'");
    }
    equicalc::MeshOptions options;
    options.sigma = 1.0 / (2.0 * g_ewald * units_.length);
    options.device = device.device;
    options.on_device = device.is_staged;
    options.threads = comm->nthreads;

    equicalc::MeshWish wish = wish_for(options.sigma);
    wish.accuracy = accuracy / units_.force() / force_error_of(wish, 1.0);
    const auto &costs = device.device.is_cuda() ? equicalc::kMeshOnDevice : equicalc::kMeshOnCpu;
    const equicalc::MeshPlan plan = equicalc::plan_mesh(wish, costs);
    if (plan.order == 0) {
        refuse_accuracy(wish);
    }
    options.points = plan.points;
    options.order = plan.order;
    options.accuracy = std::min(plan.accuracy, equicalc::mesh_accuracies().front());
    options.single = choose_precision(pair, wish.accuracy);
    if (comm->me == 0) {
        log_mesh(plan, options, units_.force() * force_error_of(wish, plan.accuracy));
    }
    return options;
}

bool KSpaceEquicalc::choose_precision(const PairEquicalc &pair, double accuracy) const {
    const bool reaches = accuracy >= kSingleReaches;
    const double relative = this->accuracy / two_charge_force;
    if (single_.value_or(false) && !reaches) {
        error->all(FLERR, "kspace_style equicalc: float32 reaches a relative accuracy of " +
                              shortest(relative * kSingleReaches / accuracy) + " here, found " +
                              shortest(relative) + ". Type 'precision float64'");
    }
    // Equilibrated charges are searched for, with steps that shrink to the last digits.
    const bool fits =
        reaches && !pair.has_equilibrated_charges() && pair.options().dtype() == torch::kFloat32;
    return single_.value_or(fits);
}

void KSpaceEquicalc::refuse_accuracy(const equicalc::MeshWish &wish) const {
    const std::string name = "kspace_style equicalc";
    const double relative = accuracy / two_charge_force;
    if (gridflag != 0) {
        std::vector<std::string> words;
        for (const int n : wish.points) {
            words.push_back(std::to_string(n));
        }
        error->all(FLERR, name + ": a mesh of " + joined(words) +
                              " points is too small; splines have " +
                              std::to_string(order == 0 ? 4 : order) +
                              " points or more in each direction. Leave out 'kspace_modify mesh', "
                              "and one is chosen");
    }
    const double best =
        order == 0 ? equicalc::mesh_accuracies().back()
                   : equicalc::mesh_accuracies()[equicalc::mesh_spacings().at(order).size() - 1];
    const std::string reached = shortest(relative * best / wish.accuracy);
    if (order != 0) {
        error->all(FLERR, name + ": splines of order " + std::to_string(order) +
                              " reach a relative accuracy of " + reached + " here, found " +
                              shortest(relative) + ". Type 'kspace_modify order 8'");
    }
    error->all(FLERR, name + " reaches a relative accuracy of " + reached + " here, found " +
                          shortest(relative) + ". Type 'kspace_style ewald " + shortest(relative) +
                          "' instead");
}

// As PPPM does.
void KSpaceEquicalc::log_mesh(const equicalc::MeshPlan &plan, const equicalc::MeshOptions &options,
                              double error_of_forces) const {
    const auto &n = plan.points;
    std::string text = "kspace_style equicalc: mesh for Gaussian charges of width " +
                       shortest(options.sigma) + " angstrom\n";
    text += "  G vector (1/distance) = " + shortest(g_ewald) + "\n";
    text += "  grid = " + std::to_string(n[0]) + " " + std::to_string(n[1]) + " " +
            std::to_string(n[2]) + ", splines of order " + std::to_string(plan.order) + "\n";
    text += "  estimated absolute RMS force accuracy = " + shortest(error_of_forces) + "\n";
    text +=
        "  estimated relative force accuracy = " + shortest(error_of_forces / two_charge_force) +
        "\n";
    text += "  device " + options.device.str() + (comm->nprocs > 1 ? " (rank 0)" : "") +
            ", precision " + (options.single ? "float32" : "float64") + "\n";
    utils::logmesg(lmp, text);
}
