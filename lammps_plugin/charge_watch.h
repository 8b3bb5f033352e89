// Charges are results of the model at every step. Fixes that can do many things (adapt) do not tell
// whether charges are among them: whether they changed is seen from step to step.
#pragma once

#include "pointers.h"

#include "lmptype.h"

#include <string>

namespace equicalc_lammps {

class ChargeWatch : protected LAMMPS_NS::Pointers {
  public:
    ChargeWatch(LAMMPS_NS::LAMMPS *lmp, std::string model)
        : Pointers(lmp), model_(std::move(model)) {}

    // All of these are collective.
    void begin_run();
    void begin_step() const;  // stops LAMMPS if the charges are not those that were left
    void end_step();

  private:
    double sum_of_squares() const;

    std::string model_;
    std::string suspects_;  // of this run, as "fix ID (style)"
    std::string remedy_;
    bool has_trials_ = false;
    double left_ = 0.0;  // squares of the deck's units
    LAMMPS_NS::bigint atoms_left_ = 0;
};

}  // namespace equicalc_lammps
