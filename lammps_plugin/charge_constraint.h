// The charges of all ranks together sum to the total charge: q = q~ + w (Q - sum q~) / sum w.
#pragma once

#include <mpi.h>

#include <span>
#include <vector>

namespace equicalc_lammps {

class ChargeConstraint {
  public:
    // weights w > 0 of this rank's atoms. Collective.
    ChargeConstraint(std::span<const double> weights, MPI_Comm ranks);

    // q from raw charges q~ and the total charge Q, e. Collective.
    std::vector<double> apply(std::span<const double> raw_charges, double total_charge) const;
    // dE/dq~ from dE/dq: g_i = phi_i - sum(w phi) / sum w, the transpose of `apply`. Collective.
    std::vector<double> transpose(std::span<const double> potentials) const;

  private:
    double sum(double local) const;

    std::span<const double> weights_;
    MPI_Comm ranks_;
    double total_weight_;
};

}  // namespace equicalc_lammps
