// kspace_style equicalc ACCURACY [device cpu|cuda|auto] [precision float32|float64]
//
// The Coulomb energy of pair_style equicalc on the mesh of equicalc's own core, on the CPU or on a
// GPU, in the place of `pppm`. ACCURACY is that of LAMMPS: the rms error of forces relative to the
// force between two charges of 1 e at 1 angstrom. Without `device` the mesh is where the network
// of the pair style is; without `precision` it is float32 where the network is and where float32
// reaches the accuracy, else float64.
//
// The splitting parameter is 1 / (2 sigma), as the pair style sets it (kspace_coupling.h): the sum
// over waves is all there is. Energy, virial, forces and energies of atoms have the conventions of
// LAMMPS' own KSPACE styles: self energy and neutralising background included, the latter without
// its part of the virial. Forces and virial are exact derivatives of the energy on this mesh.
//
// The number of points is chosen at the start of a run for the box it begins with, and stays.
// `kspace_modify` knows `mesh`, `order`, `slab` and `force` here. Every rank gathers the charges of
// all ranks. On the CPU the mesh is shared among ranks, each of which has some of its planes; on a
// GPU every rank does the whole sum and keeps the forces on its own atoms. Virials of atoms take
// six more transforms on the CPU, on the steps that ask for them, source moments three.
#pragma once

#include "device_choice.h"
#include "gathered_charges.h"
#include "long_range.h"
#include "mesh_ranks.h"
#include "units.h"

#include "coulomb/mesh_choice.h"
#include "coulomb/mesh_solver.h"

#include "kspace.h"

#include <array>
#include <memory>
#include <optional>
#include <vector>

namespace LAMMPS_NS {

class PairEquicalc;

class KSpaceEquicalc : public KSpace, public equicalc_lammps::KnowsSourceMoments {
  public:
    explicit KSpaceEquicalc(LAMMPS *lmp);
    ~KSpaceEquicalc() noexcept override {}  // KSpace may throw there, the other base must not

    void settings(int narg, char **arg) override;
    void init() override;
    // The sum looks at the box itself.
    void setup() override {}
    void compute(int eflag, int vflag) override;
    double memory_usage() override;

    void ask_for_source_moments(bool wanted) override { wants_source_moments_ = wanted; }
    const std::vector<double> &source_moments() const override { return source_moments_; }

  private:
    const PairEquicalc &require_pair() const;
    void require_boundaries() const;
    void require_order() const;
    // What follows is in kspace_mesh.cpp.
    void make_solver(const equicalc::MeshOptions &options);
    equicalc::MeshOptions choose_mesh(const PairEquicalc &pair);
    equicalc::MeshWish wish_for(double sigma) const;
    double force_error_of(const equicalc::MeshWish &wish, double accuracy) const;
    bool choose_precision(const PairEquicalc &pair, double accuracy) const;
    [[noreturn]] void refuse_accuracy(const equicalc::MeshWish &wish) const;
    void log_mesh(const equicalc::MeshPlan &plan, const equicalc::MeshOptions &options,
                  double error_of_forces) const;

    std::array<double, 9> cell() const;  // angstrom, in rows
    void add_slab_correction();
    void add_to_atoms(const equicalc::CoulombSum &sum);

    std::optional<equicalc_lammps::DeviceChoice> device_;  // if the deck names one
    std::optional<bool> single_;                           // likewise
    equicalc_lammps::Units units_;
    equicalc_lammps::GatheredCharges gathered_;
    std::optional<equicalc::MeshOptions> options_;
    equicalc_lammps::RanksOfMesh ranks_;
    std::unique_ptr<equicalc::MeshSolver> solver_;
    bool wants_source_moments_ = false;
    std::vector<double> source_moments_;
    int chosen_order_ = 0;       // by us and not by kspace_modify
    double electronvolt_ = 1.0;  // what an energy of the solver is in units of the deck
};

}  // namespace LAMMPS_NS
