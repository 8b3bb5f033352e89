// What is said when energies, charges or forces are not numbers any more.
#include "pair_equicalc.h"

#include "atom_graph.h"
#include "collective_error.h"
#include "device_graph.h"

#include "comm.h"

#include <algorithm>
#include <cmath>
#include <limits>
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
    const auto index = graph.edge_index.accessor<int32_t, 2>();
    const int64_t count = index.size(1);
    const int32_t *receivers = index[0].data();
    const double *vectors = graph.edge_vectors.data_ptr<double>();
    Neighbour found;
    for (int64_t edge = std::lower_bound(receivers, receivers + count, row) - receivers;
         edge < count && receivers[edge] == row; ++edge) {
        const double *d = vectors + 3 * edge;
        const double distance = std::hypot(d[0], d[1], d[2]);
        if (distance < found.distance) {
            found = {index[1][edge], distance};
        }
    }
    return found;
}

}  // namespace

// What fills the memory of this rank.
std::string PairEquicalc::load() const {
    return " on rank " + std::to_string(comm->me) + ", which has " +
           std::to_string(graph_->n_local()) + " atoms, " +
           std::to_string(graph_->n_total() - graph_->n_local()) +
           " copies of atoms of others and " +
           std::to_string(device_graph_ ? device_graph_->n_edges() : graph_->n_edges()) +
           " neighbour pairs within the cutoff";
}

void PairEquicalc::require_finite(const equicalc::ForwardResult &result,
                                  const equicalc::Graph &graph) const {
    const auto energies = result.energies.accessor<double, 1>();
    const auto variables = result.variables.accessor<double, 2>();
    std::vector<int64_t> rows;
    for (int64_t row = 0; row < energies.size(0); ++row) {
        double sum = energies[row];
        for (int64_t k = 0; k < variables.size(1); ++k) {
            sum += variables[row][k];
        }
        if (!std::isfinite(sum)) {
            rows.push_back(row);
        }
    }
    require_none_of(rows, graph, "energy or charge");
}

// What is not a number spreads over neighbours: among them the closest pair is the likely origin.
void PairEquicalc::require_none_of(const std::vector<int64_t> &rows,
                                   const equicalc::Graph &on_device,
                                   const std::string &what) const {
    if (rows.empty()) {
        return;
    }
    const equicalc::Graph graph = on_device.on_host();
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
    throw NotFinite(text +
                        ". Atoms may be on top of each other ('minimize', or 'delete_atoms "
                        "overlap 0.5 all all'), or the 'timestep' too long",
                    closest.distance);
}
