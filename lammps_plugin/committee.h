// Several models at once: the mean of their forces, and how far they are apart.
//
// Between begin_step and end_step each model in turn writes its forces to an empty atom->f, as if
// it were alone. The deviation of an atom is sqrt(<|F_m - <F>|^2>), the mean over the models m.
#pragma once

#include "pointers.h"

#include <span>
#include <vector>

namespace LAMMPS_NS {
class Pair;
}

namespace equicalc_lammps {

// Of the deviations of all atoms of all ranks, in the deck's units of force.
struct DeviationRange {
    double largest = 0.0, smallest = 0.0, mean = 0.0;
};

class Committee : protected LAMMPS_NS::Pointers {
  public:
    // `pair` is the style whose pack and unpack functions LAMMPS calls.
    Committee(LAMMPS_NS::LAMMPS *lmp, LAMMPS_NS::Pair *pair) : Pointers(lmp), pair_(pair) {}

    // Puts aside what other styles have left in atom->f. With deviations the forces of every model
    // are gathered from ghosts, which costs one communication each.
    void begin_step(bool with_deviations);
    void begin_model();
    void end_model();
    // atom->f becomes what it was plus the mean of the models.
    void end_step();

    // After a step with deviations: those of the given atoms of this rank, and the range over all
    // ranks. Collective.
    DeviationRange deviations(std::span<const int> atoms, std::vector<double> &of_atoms) const;

    // For the pair style, while forces are gathered.
    bool is_gathering() const { return is_gathering_; }
    int pack_reverse(int n, int first, double *buffer) const;
    void unpack_reverse(int n, const int *list, const double *buffer);

  private:
    std::span<double> forces() const;  // atom->f of local and ghost atoms
    void gather_forces();

    LAMMPS_NS::Pair *pair_;
    bool with_deviations_ = false, is_gathering_ = false;
    int n_models_ = 0;  // that have ended in this step
    std::vector<double> others_, sum_;
    std::vector<double> of_models_;  // one block of 3 nlocal after the other
};

}  // namespace equicalc_lammps
