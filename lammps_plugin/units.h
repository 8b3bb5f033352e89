// The units of the deck. The model, and everything between the network and the solvers, counts in
// eV, angstrom and e; LAMMPS' arrays are in the deck's `units`. Both meet where positions, box and
// charges are read and where forces, energies, virials and charges are written: each place
// multiplies by one of these numbers.
#pragma once

namespace LAMMPS_NS {
class LAMMPS;
}

namespace equicalc_lammps {

struct Units {
    // One eV, one angstrom, one e and one V/angstrom in units of the deck; 1 in `units metal`.
    double energy = 1.0, length = 1.0, charge = 1.0, field = 1.0;
    double mass = 1.0;  // one dalton

    // One eV/angstrom.
    double force() const { return energy / length; }
    // One of the deck's lengths in angstrom.
    double angstrom() const { return 1.0 / length; }

    // Those of the deck: metal, real, electron or si; stops LAMMPS at any other.
    static Units of_deck(LAMMPS_NS::LAMMPS *lmp);
};

}  // namespace equicalc_lammps
