// The field of `pair_style equicalc efield` during a run. While a fix changes the box, what stays
// is the voltage F.a along each periodic box vector a, as between electrodes that move with the
// crystal; F follows. The derivative of E - F.M by the box is then the same for every image of an
// atom, which that at fixed F is not: for transferred charges M is defined up to e times box
// vectors. Fixed numbers F.a are also what makes energy, forces and pressure those of one function,
// which `fix npt` conserves and `fix box/relax` minimises.
#pragma once

#include "dipole.h"

#include <array>

namespace LAMMPS_NS {
class Fix;
class LAMMPS;
}  // namespace LAMMPS_NS

namespace equicalc_lammps {

class ElectricField {
  public:
    explicit ElectricField(LAMMPS_NS::LAMMPS *lmp) : lmp_(lmp) {}

    // V/angstrom, in the box of this moment.
    void begin_run(const Vector &field);
    // Once in every step, also when the box is turned over to a less skewed one.
    void follow_box();

    const Vector &now() const { return field_; }
    bool acts() const { return field_ != Vector{}; }

  private:
    using Box = std::array<Vector, 3>;
    Box box() const;
    const LAMMPS_NS::Fix *changing_fix() const;

    LAMMPS_NS::LAMMPS *lmp_;
    bool follows_ = false;
    Vector field_{}, voltages_{};  // along the rows of box_
    Box box_{};                    // of the last step
};

// Part of an atom's virial, eV, xx yy zz xy xz yz: voltages that stay add nothing for charges that
// move with atoms, and nothing for the edges that bond dipoles are made of; the virial of the
// network has these edges in a fixed field, and this is the difference.
std::array<double, 6> field_virial(const Vector &field, const Vector &bond_dipole);

}  // namespace equicalc_lammps
