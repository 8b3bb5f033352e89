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

// Of all edges the one that is shortest in relation to its limit.
struct Contact {
    double ratio = 1.0;  // of the squared distance to the squared limit
    int64_t edge = -1;
};

class Contacts : protected LAMMPS_NS::Pointers {
  public:
    Contacts(LAMMPS_NS::LAMMPS *lmp, const equicalc::ModelInfo &info, OnContact action);

    void begin_run() { warned_ = false; }
    // Whether `check` has anything left to say in this run.
    bool are_checked() const;
    // angstrom^2, [n_elements, n_elements]; 0: none.
    const std::vector<double> &squared_limits() const { return squared_limits_; }
    // Of a graph on the host.
    Contact closest(const equicalc::Graph &graph) const;
    // Collective.
    void check(const Contact &contact, const equicalc::Graph &graph, const AtomGraph &atoms);

  private:
    std::string describe(const equicalc::Graph &graph, const AtomGraph &atoms, int64_t edge) const;

    std::string model_;
    std::vector<std::string> elements_;
    OnContact action_;
    bool warned_ = false;
    std::vector<double> shortest_;        // angstrom, [n_elements, n_elements]; 0: not known
    std::vector<double> squared_limits_;  // empty when nothing is known
};

}  // namespace equicalc_lammps
