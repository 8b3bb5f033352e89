// The Coulomb energy of the model's charges, whatever the boundaries and widths: the user's KSPACE
// style plus pairs of different width, or without periodic directions the sum over all pairs.
#pragma once

#include "kspace_coupling.h"
#include "long_range.h"
#include "units.h"
#include "width_pairs.h"

#include "pointers.h"

#include <functional>
#include <span>
#include <vector>

namespace LAMMPS_NS {
class NeighList;
}

namespace equicalc_lammps {

class Coulomb : protected LAMMPS_NS::Pointers {
  public:
    // Charges of this rank's atoms -> charges of all rows, those of other ranks included.
    using Spread = std::function<std::span<const double>(std::span<const double>)>;

    // sigma_of_type: widths of atom types 1, 2, ... in angstrom, 0 for types without charge.
    Coulomb(LAMMPS_NS::LAMMPS *lmp, const Units &units, std::vector<double> sigma_of_type,
            Spread spread, KspaceCoupling::Solver solver);

    // See KspaceCoupling; init_run also fixes the ranges of the pairs.
    void attach() { kspace_.attach(); }
    void init_run();
    double *cutoff() { return kspace_.cutoff(); }
    // How far the neighbour list must reach for these types, in units of the deck.
    double range(int type, int other) const;
    // How exact dE/dq needs to be for errors below those of the solver, V.
    double tolerance() const;

    // The atoms of this rank at the present positions; row_of_atom as in WidthPairs. Both must
    // live until the next call.
    void begin_step(const LAMMPS_NS::NeighList &list, std::span<const int> atoms,
                    std::span<const int> row_of_atom);
    // Energy and all derivatives for charges (e) of these atoms; forces go to atom->f, charges to
    // atom->q. Source moments of a KSPACE style that knows them, or without one. The result lives
    // until the next call. Collective.
    const LongRange &solve(std::span<const double> charges, int eflag, int vflag,
                           bool with_source_moments = false);
    // Only dE/dq (V), which is linear in the charges. Collective.
    std::vector<double> potentials(std::span<const double> charges);

  private:
    bool has_width_pairs() const;

    Units units_;
    std::vector<double> sigma_of_type_;
    Spread spread_;
    WidthPairs pairs_;
    KspaceCoupling kspace_;
    std::span<const int> atoms_;
    LongRange result_;
};

}  // namespace equicalc_lammps
