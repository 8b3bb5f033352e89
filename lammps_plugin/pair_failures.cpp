// What is said when energies, charges or forces are not numbers any more.
#include "pair_equicalc.h"

#include "atom_graph.h"
#include "collective_error.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

using namespace LAMMPS_NS;
using namespace equicalc_lammps;

namespace {

struct Neighbour {
    int64_t row = -1;
    double distance = std::numeric_limits<double>::infinity();  // angstrom
};

Neighbour closest_to(int64_t row, const equicalc::Graph &graph) {
    const int64_t count = graph.edge_index.size(1);
    const int64_t *receivers = graph.edge_index.data_ptr<int64_t>();
    const double *vectors = graph.edge_vectors.data_ptr<double>();
    Neighbour found;
    for (int64_t edge = std::lower_bound(receivers, receivers + count, row) - receivers;
         edge < count && receivers[edge] == row; ++edge) {
        const double *d = vectors + 3 * edge;
        const double distance = std::hypot(d[0], d[1], d[2]);
        if (distance < found.distance) {
            found = {receivers[count + edge], distance};
        }
    }
    return found;
}

}  // namespace

void PairEquicalc::require_finite(const equicalc::ForwardResult &result,
                                  const equicalc::Graph &graph) const {
    const torch::Tensor sums = result.energies + result.variables.sum(1);
    const double *sum = sums.data_ptr<double>();
    std::vector<int64_t> rows;
    for (int64_t row = 0; row < sums.size(0); ++row) {
        if (!std::isfinite(sum[row])) {
            rows.push_back(row);
        }
    }
    require_none_of(rows, graph, "energy or charge");
}

// What is not a number spreads over neighbours: among them the closest pair is the likely origin.
void PairEquicalc::require_none_of(const std::vector<int64_t> &rows, const equicalc::Graph &graph,
                                   const std::string &what) const {
    if (rows.empty()) {
        return;
    }
    int64_t origin = rows.front();
    Neighbour closest = closest_to(origin, graph);
    for (const int64_t row : rows) {
        const Neighbour neighbour = closest_to(row, graph);
        if (neighbour.distance < closest.distance) {
            origin = row;
            closest = neighbour;
        }
    }
    const auto name = [&](int64_t row) { return graph_->label(graph_->atom_of_row()[row]); };
    std::string text = "the " + what + " of atom " + name(origin) + " is not a finite number " +
                       step_and_rank(lmp) + ". ";
    text += closest.row < 0 ? "It has no neighbour"
                            : "Its closest neighbour, atom " + name(closest.row) + ", is " +
                                  std::to_string(closest.distance) + " angstrom away";
    throw std::runtime_error(text +
                             ". Atoms may be on top of each other ('minimize', or 'delete_atoms "
                             "overlap 0.5 all all'), or the 'timestep' too long");
}
