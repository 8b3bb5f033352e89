// pair_style equicalc/kk: pair_style equicalc in a run of LAMMPS' package KOKKOS.
//
// The same code with the same options and results. What the class adds is what KOKKOS has to know:
// which data of atoms the step reads and writes, and that KSPACE, which the step calls itself, may
// keep its own copy of them. `-sf kk` chooses it.
//
// Where things are: atoms, neighbour list and forces of this style are in memory of the host,
// whatever KOKKOS computes on. With a GPU positions come to the host and forces and charges go back
// at every step; the neighbour list is LAMMPS' ordinary one, built on the host. Only the network
// runs elsewhere, with `device cuda`. There is therefore one class for equicalc/kk,
// equicalc/kk/host and equicalc/kk/device.
#pragma once

#include "pair_equicalc.h"

namespace LAMMPS_NS {

class PairEquicalcKokkos : public PairEquicalc {
  public:
    explicit PairEquicalcKokkos(LAMMPS *lmp);
    void init_style() override;

  protected:
    void run_kspace(int eflag, int vflag) override;
};

}  // namespace LAMMPS_NS
