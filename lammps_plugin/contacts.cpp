#include "contacts.h"

#include "atom_graph.h"
#include "collective_error.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "json.h"
#include "update.h"

#include <cmath>
#include <string>

namespace equicalc_lammps {
namespace {

// Molecular dynamics goes a little below what any finite set of structures holds.
constexpr double kMargin = 0.9;

// Matrix of the entries "A-B": distance of training.shortest_distances; 0 where there is none.
std::vector<double> shortest_distances(const equicalc::ModelInfo &info) {
    const size_t n = info.elements.size();
    std::vector<double> matrix(n * n, 0.0);
    const auto metadata = nlohmann_lmp::json::parse(info.json);
    const auto training = metadata.find("training");
    if (training == metadata.end() || !training->contains("shortest_distances")) {
        return {};
    }
    const auto &distances = (*training)["shortest_distances"];
    for (size_t a = 0; a < n; ++a) {
        for (size_t b = 0; b < n; ++b) {
            const auto found = distances.find(info.elements[a] + "-" + info.elements[b]);
            if (found != distances.end()) {
                matrix[a * n + b] = matrix[b * n + a] = found->get<double>();
            }
        }
    }
    return matrix;
}

std::string two_digits(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f", value);
    return text;
}

}  // namespace

Contacts::Contacts(LAMMPS_NS::LAMMPS *lmp, const equicalc::ModelInfo &info, OnContact action)
    : Pointers(lmp), model_(info.name), elements_(info.elements), action_(action) {
    run_on_all_ranks(lmp, [&] { shortest_ = shortest_distances(info); });
    for (const double distance : shortest_) {
        squared_limits_.push_back(kMargin * kMargin * distance * distance);
    }
}

Contact Contacts::closest(const equicalc::Graph &graph) const {
    const auto index = graph.edge_index.accessor<int32_t, 2>();
    const int64_t *species = graph.species.data_ptr<int64_t>();
    const double *vectors = graph.edge_vectors.data_ptr<double>();
    const auto n_elements = static_cast<int64_t>(elements_.size());
    Contact found;
    for (int64_t edge = 0; edge < index.size(1); ++edge) {
        const double *d = vectors + 3 * edge;
        const double limit =
            squared_limits_[species[index[0][edge]] * n_elements + species[index[1][edge]]];
        const double square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
        if (square < found.ratio * limit) {
            found = {square / limit, edge};
        }
    }
    return found;
}

bool Contacts::are_checked() const {
    return action_ != OnContact::ignore && !squared_limits_.empty() && !warned_;
}

void Contacts::check(const Contact &contact, const equicalc::Graph &graph, const AtomGraph &atoms) {
    struct {
        double ratio;
        int rank;
    } worst{contact.ratio, comm->me};
    MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_DOUBLE_INT, MPI_MINLOC, world);
    if (worst.ratio >= 1.0) {
        return;
    }
    std::string text;
    if (comm->me == worst.rank) {
        text = describe(graph.on_host(), atoms, contact.edge);
    }
    text = text_of_rank(lmp, worst.rank, text);
    if (action_ == OnContact::stop) {
        error->all(FLERR, text);
    }
    warned_ = true;
    if (comm->me == 0) {
        error->warning(FLERR, text +
                                  ". 'pair_style equicalc contacts stop' stops here, 'contacts "
                                  "ignore' says nothing. No further warning in this run");
    }
}

std::string Contacts::describe(const equicalc::Graph &graph, const AtomGraph &atoms,
                               int64_t edge) const {
    const auto index = graph.edge_index.accessor<int32_t, 2>();
    const int64_t *species = graph.species.data_ptr<int64_t>();
    const double *d = graph.edge_vectors.data_ptr<double>() + 3 * edge;
    const int64_t rows[2] = {index[0][edge], index[1][edge]};
    const auto name = [&](int64_t row) {
        return atoms.label(atoms.atom_of_row()[row]) + " (" + elements_[species[row]] + ")";
    };
    const int64_t pair =
        species[rows[0]] * static_cast<int64_t>(elements_.size()) + species[rows[1]];
    return "pair_style equicalc: at step " + std::to_string(update->ntimestep) + " on rank " +
           std::to_string(comm->me) + " atoms " + name(rows[0]) + " and " + name(rows[1]) +
           " are " + two_digits(std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])) +
           " angstrom apart, but in the training data of model '" + model_ + "' never less than " +
           two_digits(shortest_[pair]) +
           ": the model extrapolates. A smaller 'timestep', a 'minimize' before the run, a lower "
           "temperature, or training data with such contacts may be what is missing";
}

}  // namespace equicalc_lammps
