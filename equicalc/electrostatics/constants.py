"""Physical constants of the electrostatics."""

# Coulomb constant 1 / (4 pi eps_0) in eV A / e^2, CODATA 2014 as used by `ase.units`.
COULOMB_CONSTANT = 14.399645478425668
