// The long-range solver of a learned-charge model is whatever `kspace_style` the user chose.
//
// The pair style calls it itself, in the middle of its own step: after the network has given the
// charges and before the backward pass, which needs the potentials dE/dq. The splitting parameter
// is g = 1/(2 sigma): the reciprocal sum then IS the energy of Gaussian charges of width sigma,
// and no real-space part is left over. (Narrower charges need pairs as well: width_pairs.h.)
//
// Energy and virial are handed to the pair style and set to zero in the KSPACE style, because
// LAMMPS clears the latter in the set-up of a run when it does not call the solver itself. In
// thermo output the long-range energy therefore appears in `ecoul`, not in `elong`.
#pragma once

#include "long_range.h"
#include "units.h"

#include "pointers.h"

#include <array>
#include <functional>
#include <span>
#include <vector>

namespace equicalc_lammps {

class KspaceCoupling : protected LAMMPS_NS::Pointers {
  public:
    // Runs the KSPACE style once, on atom->q, for these eflag and vflag.
    using Solver = std::function<void(int, int)>;

    // sigma: Gaussian width of the charges on the mesh, angstrom.
    KspaceCoupling(LAMMPS_NS::LAMMPS *lmp, const Units &units, double sigma, Solver solver);
    ~KspaceCoupling() override;
    KspaceCoupling(const KspaceCoupling &) = delete;
    KspaceCoupling &operator=(const KspaceCoupling &) = delete;

    // Takes over the present KSPACE style, if there is one: refuses styles that cannot serve, sets
    // the splitting parameter and tells the integrator not to call the solver. Any number of times.
    void attach();
    // At the start of a run, after KSPACE was initialised.
    void init_run();
    // Long-range energy of the charges (e) of the given atoms of this rank; all others have none.
    // Forces go straight to atom->f, charges to atom->q. Only a style that KnowsSourceMoments can
    // be asked for them. Collective.
    void solve(std::span<const int> atoms, std::span<const double> charges, int eflag, int vflag,
               bool with_source_moments, LongRange &result);
    // Only dE/dq (V) of such charges, which is linear in them; nothing else changes but atom->q.
    // Collective.
    std::vector<double> potentials(std::span<const int> atoms, std::span<const double> charges);
    // Accuracy asked for: of forces, relative to that between two charges e at 1 angstrom.
    double accuracy() const;

    // The cutoff that KSPACE styles ask for and base their error estimate of the real-space part
    // on. There is no such part: the number makes its estimated error vanish.
    double *cutoff() { return &cutoff_; }

  private:
    void refuse_unsuitable_style() const;
    void set_splitting();
    void set_up_solver();
    void require_fine_mesh(const std::array<double, 6> &box) const;
    double charge_scale() const;
    void run_solver(std::span<const int> atoms, std::span<const double> charges, int eflag,
                    int vflag);
    void take_source_moments(std::span<const int> atoms, LongRange &result) const;
    void take_results(std::span<const int> atoms, bool with_atom_virials, LongRange &result);
    void check_atom_energies(std::size_t n_atoms, const LongRange &result);

    Units units_;
    Solver solver_;
    double splitting_;                    // 1/angstrom
    double cutoff_;                       // in units of the deck
    void *attached_ = nullptr;            // the KSpace object taken over
    bool integrator_is_stale_ = false;    // it has read compute_flag before we changed it
    bool solver_is_stale_ = true;         // KSPACE was initialised and not set up since
    bool atom_energies_checked_ = false;  // once per run
    std::array<double, 6> box_of_setup_{}, box_of_mesh_{};
    std::vector<double> scaled_;  // charges as the solver gets them
};

}  // namespace equicalc_lammps
