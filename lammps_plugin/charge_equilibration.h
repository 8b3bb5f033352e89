// Charges at the minimum of  sum chi q + eta q^2 / 2 + E_Coulomb(q)  with the sum Q, over all
// ranks.
#pragma once

#include <mpi.h>

#include <functional>
#include <span>
#include <vector>

namespace equicalc_lammps {

struct EquilibrationProblem {
    std::span<const double> chi, eta;  // of this rank's atoms: V, and V/e > 0
    double total_charge = 0.0;         // e, of all ranks
    double tolerance = 0.0;            // largest difference of dE/dq from its common value, V
    // dE_Coulomb/dq (V) of charges of this rank's atoms, linear in them; collective.
    std::function<std::vector<double>(std::span<const double>)> potentials;
    MPI_Comm ranks = MPI_COMM_NULL;
};

struct Equilibrium {
    std::vector<double> charges;  // e
    int steps = 0;                // of the search; each is one Coulomb sum
};

// Preconditioned conjugate gradients within the charges of the right sum (Gould, Hribar and
// Nocedal, SIAM J. Sci. Comput. 23, 1376 (2001)), from charges `start` (e). Throws
// std::runtime_error on every rank when there is no minimum or none is found; numbers that are not
// finite come back as they are. Collective.
Equilibrium equilibrate(const EquilibrationProblem &problem, std::span<const double> start);

}  // namespace equicalc_lammps
