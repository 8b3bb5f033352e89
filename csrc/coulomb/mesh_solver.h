// The Coulomb energy of Gaussian charges of one width in a periodic cell, on a mesh whose number of
// points stays while the cell changes: what stands around CoulombMesh (mesh.h) on the CPU and
// around the operators for devices (device_mesh.h). Memory is kept from call to call, and tables
// while the cell stays. For front ends without Python; equicalc.electrostatics.mesh is the other.
#pragma once

#include <torch/types.h>

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "coulomb/ewald.h"

namespace equicalc {

struct MeshOptions {
    double sigma = 1.0;  // angstrom
    std::array<int, 3> points{};
    int order = 0;
    double accuracy = 1e-6;  // of the mesh (mesh_choice.h); decides which waves count at all
    bool single = false;     // meshes and transforms in float32
    // Operators for devices, on the CPU too: slowly, to check one against the other.
    bool on_device = false;
    torch::Device device = torch::kCPU;
    int threads = 1;

    bool operator==(const MeshOptions &) const = default;
};

// Charges (e) at positions (angstrom), and those of which more is asked than their part in the sum.
struct MeshCharges {
    std::size_t n = 0;
    const double *positions = nullptr;  // [n][3]
    const double *charges = nullptr;    // [n]
    std::size_t first = 0, last = 0;    // from the first up to the last
    bool atom_virials = false;          // by six more transforms, on the CPU
    bool source_moments = false;        // likewise, by three
};

// Ranks that sum together; this one is alone. All of them know all charges, in the same order, and
// each asks for others of them. On the CPU they share the work, on devices each has all of it.
class MeshRanks {
  public:
    virtual ~MeshRanks() = default;
    virtual int rank() const { return 0; }
    virtual int size() const { return 1; }
    // `action` does not communicate. Where it throws on one rank, this throws on all of them.
    virtual void run(const std::function<void()> &action) { action(); }
    // Parts of so many numbers for each rank, and from each rank, one after the other; float or
    // double.
    virtual void exchange(const void *, const std::vector<int> &, void *, const std::vector<int> &,
                          bool) {}
    // Sums over ranks: on every rank; and of [n][width] for all charges, to the beginning of
    // `values` those that a rank asks for.
    virtual void sum(std::vector<double> &) {}
    virtual void sum_for_owners(std::vector<double> &, int) {}
};

class MeshSolver {
  public:
    // Throws std::invalid_argument for an order that is not offered or too few points, and
    // c10::Error where a device has no kernels. `ranks` outlive the solver.
    static std::unique_ptr<MeshSolver> make(const MeshOptions &options, MeshRanks &ranks);
    static std::unique_ptr<MeshSolver> make(const MeshOptions &options);
    virtual ~MeshSolver() = default;

    // Energy and virial of all charges, forces, potentials, virials and moments of those that are
    // asked for and no others; cell [3][3] in rows. Virials of atoms have no part of that of the
    // background. The result lives until the next call. All ranks call it together.
    virtual const CoulombSum &solve(const double *cell, const MeshCharges &atoms) = 0;
    // Of what is kept, on the host or on the device.
    virtual std::size_t memory_bytes() const = 0;
};

// Energy of the neutralising background for charges of one width, eV. Its virial is this along
// every axis.
double background_energy(double total_charge, double sigma, double volume);

// Where the smooth edge of the sum over waves begins and ends, in units of 1/sigma, so that the
// waves beyond make up a part `accuracy` of the interaction of two charges at one place.
std::pair<double, double> taper_range(double accuracy);

// Accuracy of the sum over waves on a mesh of this accuracy. There waves cost nothing: those count
// that make up more than a thousandth of it, so that the mesh alone decides about the error.
double mesh_wave_accuracy(double accuracy);

}  // namespace equicalc
