// What charges that respond to their surroundings add to the energy current (pair_heat.cpp).
//
// With the energies E_i = U_i + q_i phi_i / 2 of atoms, and charges q_i = q~_i + s w_i whose shift
// s = (Q - sum q~) / sum w makes them sum to Q, the current d/dt sum_i r_i E_i has three parts
// beside those of fixed charges:
//   1. sum_jk (r_j - r_k) (phi_j - l) du_j/dr_k v_k, u_j the charge q_j at constant s, as for
//      energies of neighbourhoods. The forces have l = sum w phi / sum w, because the shift takes
//      a charge that appears at one atom from all atoms, in proportion to their weights.
//   2. 1/2 sum_j A_j dq_j/dt with the source moments A_j = sum_i (r_i - r_j) q_i G_ij: half of the
//      energy of a pair is at each atom, whichever of the charges changes.
//   3. what the shift moves: charge and energy are at one atom and then at all others, without a
//      way between. In a periodic cell this has no current, which is of the order of one atom's
//      and not of the cell's. It is left out: s and l stay, as those of a reservoir. Then local
//      energies are E_i - l (q_i - Q/N), their sum is the same, and
//        J = d/dt sum r_i E_i - ds/dt sum r_i w_i phi_i
//            - l [d/dt sum r_i (q_i - Q/N) - ds/dt sum r_i w_i],
//      currents of energy and, times l, of charge, neither with what the shift moves.
// Charges that flow along edges conserve themselves: of them only s w_i is from the reservoir, and
// l is zero for q~. With s = 0, as where formal charges sum to Q, J is the current without more
// ado.
//
// Charges at the minimum of sum chi q + eta q^2 / 2 + E_Coulomb(q) have one common l = chi + eta q
// + phi, and each depends on all surroundings. With their own terms in E_i
//   J = d/dt sum r_i E_i - l d/dt sum r_i (q_i - Q/N)
// has 1. with u_j = q_j chi_j + q_j^2 eta_j / 2, and 2. with the response of the minimum:
//   1/2 sum_j A_j dq_j/dt = -1/2 sum_j y_j d/dt (chi_j + eta_j q_j + phi_j) at constant q,
// y = H^-1 A among charges of sum zero, H the matrix of second derivatives: one more search for
// each direction, and derivatives of sum y chi, sum y q eta and of the Coulomb energy between y and
// q.
#pragma once

#include "charge_equilibration.h"
#include "long_range.h"

#include <torch/types.h>

#include <mpi.h>

#include <array>
#include <functional>
#include <span>
#include <vector>

namespace equicalc_lammps {

struct HeatOfCharges {
    // [n_local, K]: factors of the derivatives of the variables, V for charges, in part 1 ...
    torch::Tensor local;
    bool is_local_of_forces = false;  // whether the forces have the same factors
    // ... and in part 2 for x, y and z, V angstrom.
    std::array<torch::Tensor, 3> distant;
    std::vector<double> reservoir;  // -l (q_i - Q/N) or -l (s w_i - s sum w / N), eV
    // What the Coulomb energy adds to W_k in part 2, eV, in rows; empty but for equilibrated
    // charges.
    std::vector<std::array<double, 9>> moved;
};

// Of variables [n_local, K] with the columns q~ and w, then those of charges that flow; `shift` is
// s, long_range that of the charges q~ + s w, with source moments. Collective.
HeatOfCharges heat_of_charges(const torch::Tensor &variables, double shift,
                              const LongRange &long_range, MPI_Comm ranks);

// Coulomb forces [n_local] on atoms of this rank, eV/angstrom, for their charges (e); collective.
using CoulombForces =
    std::function<std::vector<std::array<double, 3>>(std::span<const double> charges)>;

// Of the charges that solve a problem; long_range is theirs, with source moments. Throws as
// `equilibrate` does. Collective.
HeatOfCharges heat_of_equilibrium(const EquilibrationProblem &problem,
                                  std::span<const double> charges, const LongRange &long_range,
                                  const CoulombForces &forces);

}  // namespace equicalc_lammps
