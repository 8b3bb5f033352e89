// Atoms that are closer than any in the training data: the network extrapolates there.
//
// Model files say how close the atoms of each pair of elements came in their training data (key
// training.shortest_distances). A pair below nine tenths of that is reported: once per run as a
// warning, or as an error. Files without the key are not checked.
#pragma once

#include "equicalc.h"

#include "pointers.h"

#include <vector>

namespace equicalc_lammps {

class AtomGraph;

enum class OnContact { warn, stop, ignore };

class Contacts : protected LAMMPS_NS::Pointers {
  public:
    Contacts(LAMMPS_NS::LAMMPS *lmp, const equicalc::ModelInfo &info, OnContact action);

    void begin_run() { warned_ = false; }
    // Collective.
    void check(const equicalc::Graph &graph, const AtomGraph &atoms);

  private:
    struct Contact {
        double ratio = 1.0;  // of the squared distance to the squared limit
        int64_t edge = -1;
    };
    Contact closest(const equicalc::Graph &graph) const;
    std::string describe(const equicalc::Graph &graph, const AtomGraph &atoms, int64_t edge) const;

    std::string model_;
    std::vector<std::string> elements_;
    OnContact action_;
    bool warned_ = false;
    std::vector<double> shortest_;        // angstrom, [n_elements, n_elements]; 0: not known
    std::vector<double> squared_limits_;  // empty when nothing is known
};

}  // namespace equicalc_lammps
