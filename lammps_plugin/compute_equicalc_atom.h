// compute ID group equicalc/atom QUANTITY ...
//
// Numbers that pair_style equicalc has about each atom at the present step, in units of the deck;
// of a committee, the means over its models:
//   charge               charge
//   potential            electrostatic potential of all other charges, dE_Coulomb/dq
//   energy               energy of the atom: network plus electrostatics
//   network              energy that the network gives the atom
//   electrostatic        Coulomb energy of the atom, with that of equilibration and field
//   deviation            of the forces of a committee (pair_style equicalc deviation N)
// and the raw outputs of the network from which charges follow (equicalc::ChargeModel):
//   raw_charge weight                           fixed, predicted and transferred charges
//   bond_dipole_x bond_dipole_y bond_dipole_z   transferred charges
//   electronegativity hardness                  equilibrated charges
// One quantity makes a per-atom vector, several make the columns of an array. Atoms that the model
// does not describe, and those outside of the group, have zeros.
#pragma once

#include "compute.h"

#include <string>
#include <vector>

namespace LAMMPS_NS {

class PairEquicalc;

class ComputeEquicalcAtom : public Compute {
  public:
    ComputeEquicalcAtom(LAMMPS *lmp, int narg, char **arg);

    void init() override;
    void compute_peratom() override;
    double memory_usage() override;

  private:
    std::vector<std::string> quantities_;
    PairEquicalc *pair_ = nullptr;
    std::vector<double> values_;  // [atoms, quantities]
    std::vector<double *> rows_;  // of values_, as LAMMPS wants arrays
};

}  // namespace LAMMPS_NS
