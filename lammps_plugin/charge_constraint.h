// The charges of all ranks together sum to the total charge: q = q~ + w (Q - sum q~) / sum w.
#pragma once

#include "kept_memory.h"

#include <torch/types.h>

#include <mpi.h>

#include <span>
#include <vector>

namespace equicalc_lammps {

class ChargeConstraint {
  public:
    explicit ChargeConstraint(MPI_Comm ranks) : ranks_(ranks) {}

    // variables [n_local, K]: columns raw charge q~ (e) and weight w > 0, then others; Q in e, of
    // all ranks. Collective.
    void apply(const torch::Tensor &variables, double total_charge);

    // q of this rank's atoms, e.
    const std::vector<double> &charges() const { return charges_; }
    // (Q - sum q~) / sum w
    double shift() const { return shift_; }
    // dE/d(variables) [n_local, K] from dE/dq (V) of the Coulomb energy and of the energy in a
    // field. With the centred phi_i - <phi>, <phi> = sum(w phi) / sum w, of both together,
    // dE/dq~_i = centred and dE/dw_i = (Q - sum q~) / sum w * centred. Where bond dipoles follow
    // (K > 2) they, not q~, say how transferred charge moves in the field, and dE/dq~ is without
    // it. Zero in other columns. Without a field its potentials may be left out. Collective.
    torch::Tensor gradient(std::span<const double> potentials,
                           std::span<const double> field_potentials);

  private:
    MPI_Comm ranks_;
    torch::Tensor variables_;
    equicalc::KeptTensor gradient_memory_;
    double total_weight_ = 0.0;
    double shift_ = 0.0;
    std::vector<double> charges_;
};

}  // namespace equicalc_lammps
