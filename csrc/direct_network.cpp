#include "direct_network.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "direct_charges.h"
#include "direct_message_passing.h"

namespace equicalc::direct {
namespace {

using torch::Tensor;

// What passes from one layer to the next, on local atoms and, where senders need it, on all.
template <typename T>
struct Between {
    bool has_features = false;        // the next layer has a skip connection
    Buffer<T> features;               // of local atoms; once used, their gradients
    Buffer<T> messages, by_messages;  // of all atoms; by_messages unless they are overwritten
    T *by_sent = nullptr;             // gradients by messages, wherever they are
};

// Weights as the loops read them.
struct WeightRows {
    double energy = 1.0;
    const double *energies = nullptr, *variables = nullptr;

    double of_energy(int64_t atom) const { return energies ? energies[atom] : energy; }
    bool without_energies() const { return energies == nullptr && energy == 0.0; }
};

template <typename T>
class NetworkOf final : public Network {
  public:
    explicit NetworkOf(const Parts &parts);

    ForwardResult forward(const Graph &graph, HaloExchange *exchange) override;
    Tensor backward(const OutputWeights &weights, HaloExchange *exchange) override;

  private:
    // Runs body(begin, end, scratch) on all tiles of n atoms.
    template <typename Body>
    void for_tiles(int64_t n, const Body &body);

    void prepare(const Graph &graph, HaloExchange *exchange);
    void finish_forward(int64_t begin, int64_t end, Scratch<T> &scratch);
    void start_backward(int64_t begin, int64_t end, const WeightRows &weights, Scratch<T> &scratch);
    void backward_of_first(int64_t begin, int64_t end, const WeightRows &weights,
                           double *by_vectors, Scratch<T> &scratch);
    void add_repulsion_gradient(const EdgeList &edges, const WeightRows &weights,
                                double *by_vectors) const;
    Tensor travelling_rows(T *rows) const;
    static T *place_for_gradients(Buffer<T> &values, Buffer<T> &beside, int64_t count, bool over);
    const T *as_they_were(const T *values, const T *by_values, int64_t begin, int64_t end,
                          Scratch<T> &scratch) const;

    int64_t feature_size() const { return n_components_ * channels_; }
    TileRows<T> feature_rows(T *features, int64_t atom) const {
        return {features + atom * feature_size(), feature_size(), channels_};
    }
    // Where the layer before a gap puts its results, or finds their gradients.
    UpdateRows<T> rows_out(int64_t gap, int64_t atom);
    UpdateRows<T> rows_back(int64_t gap, int64_t atom);

    int64_t n_layers_, n_components_, n_channels_, channels_;  // as in the model, and padded
    int64_t n_species_, n_variables_;
    int64_t scalar_width_;  // of one atom's scalars: messages of each degree, then its own
    std::unique_ptr<FirstLayer<T>> first_;
    std::vector<MiddleLayer<T>> middle_;
    std::optional<LastLayer<T>> last_;
    Readout<T> readout_;
    AtomOutputs outputs_;
    Repulsion repulsion_;

    // of the last forward pass
    EdgeIndex edges_;
    std::vector<Between<T>> between_;                // n_layers - 1
    std::vector<Buffer<T>> messages_, by_messages_;  // of middle layers
    // Scalars, which nothing needs after the readout, and then their gradients.
    Buffer<T> scalars_;
    Buffer<T> gains_, readout_outputs_;
    Tensor energies_, variables_;
    KeptTensor energy_memory_, variable_memory_, gradient_memory_;
    std::vector<Scratch<T>> scratch_;
};

template <typename T>
NetworkOf<T>::NetworkOf(const Parts &parts)
    : n_layers_(parts.n_layers),
      n_components_((parts.l_max + 1) * (parts.l_max + 1)),
      n_channels_(parts.channels),
      channels_(padded<T>(parts.channels)),
      n_species_(parts.n_species),
      n_variables_(n_variables(parts.charge_model)),
      scalar_width_((n_layers_ > 1 ? parts.l_max + 2 : 1) * channels_),
      readout_(parts, n_layers_ > 1 ? parts.l_max + 2 : 1),
      outputs_(parts),
      repulsion_(parts),
      between_(n_layers_ - 1),
      messages_(std::max<int64_t>(n_layers_ - 2, 0)),
      by_messages_(messages_.size()) {
    const auto path = [](int64_t layer) { return "middle." + std::to_string(layer - 1); };
    const auto next = [&](int64_t layer) -> std::string {
        if (layer + 1 == n_layers_) {
            return "";
        }
        return (layer + 2 == n_layers_ ? "last" : path(layer + 1)) + ".linear.weights";
    };
    for (int64_t gap = 0; gap + 1 < n_layers_; ++gap) {
        between_[gap].has_features = gap + 2 < n_layers_;
    }
    first_ = std::make_unique<FirstLayer<T>>(parts, next(0), n_layers_ > 2);
    for (int64_t layer = 1; layer + 1 < n_layers_; ++layer) {
        middle_.emplace_back(parts, path(layer), next(layer), layer + 2 < n_layers_);
    }
    if (n_layers_ > 1) {
        last_.emplace(parts);
    }
}

template <typename T>
template <typename Body>
void NetworkOf<T>::for_tiles(int64_t n, const Body &body) {
    if (scratch_.size() < size_t(at::get_num_threads())) {
        scratch_.resize(at::get_num_threads());
    }
    const int64_t n_tiles = (n + kTile - 1) / kTile;
    at::parallel_for(0, n_tiles, 1, [&](int64_t first, int64_t last) {
        for (int64_t tile = first; tile < last; ++tile) {
            body(tile * kTile, std::min((tile + 1) * kTile, n), scratch_[at::get_thread_num()]);
        }
    });
}

template <typename T>
UpdateRows<T> NetworkOf<T>::rows_out(int64_t gap, int64_t atom) {
    UpdateRows<T> rows{};
    if (gap < n_layers_ - 1) {
        rows.messages = feature_rows(between_[gap].messages.data(), atom);
    }
    if (gap < n_layers_ - 1 && between_[gap].has_features) {
        rows.features = feature_rows(between_[gap].features.data(), atom);
    } else {
        rows.scalars = {scalars_.data() + (atom + 1) * scalar_width_ - channels_, scalar_width_, 0};
    }
    return rows;
}

template <typename T>
UpdateRows<T> NetworkOf<T>::rows_back(int64_t gap, int64_t atom) {
    UpdateRows<T> rows{};
    if (gap < n_layers_ - 1) {
        rows.messages = feature_rows(between_[gap].by_sent, atom);
    }
    if (gap < n_layers_ - 1 && between_[gap].has_features) {
        rows.features = feature_rows(between_[gap].features.data(), atom);
    } else {
        rows.scalars = {scalars_.data() + (atom + 1) * scalar_width_ - channels_, scalar_width_, 0};
    }
    return rows;
}

// ---- forward -----------------------------------------------------------------------------------

template <typename T>
void NetworkOf<T>::prepare(const Graph &graph, HaloExchange *exchange) {
    edges_.build(graph, n_species_);
    const int64_t n = edges_.n_local(), n_total = edges_.n_total();
    TORCH_CHECK(exchange != nullptr || n_layers_ == 1 || n == n_total,
                "equicalc::exchange: the graph has ", n_total, " atoms but only ", n,
                " of them have features, and no halo exchange is set. On one rank map periodic "
                "images to their owners (n_total == n_local)");
    energies_ = variables_ = Tensor();
    energies_ = energy_memory_.get({n}, torch::kFloat64);
    variables_ = variable_memory_.get({n, n_variables_}, torch::kFloat64);
    scalars_.ensure(n * scalar_width_);
    gains_.ensure(n * readout_.n_gains());
    readout_outputs_.ensure(n * Readout<T>::kOutputs);
    for (Between<T> &between : between_) {
        between.messages.ensure(n_total * feature_size());
        if (between.has_features) {
            between.features.ensure(n * feature_size());
        }
    }
    for (Buffer<T> &messages : messages_) {
        messages.ensure(n * feature_size());
    }
}

template <typename T>
ForwardResult NetworkOf<T>::forward(const Graph &graph, HaloExchange *exchange) {
    prepare(graph, exchange);
    const int64_t n = edges_.n_local();
    for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        first_->forward(edges_, begin, end, rows_out(0, begin), scratch);
        if (n_layers_ == 1) {
            finish_forward(begin, end, scratch);
        }
    });
    for (int64_t layer = 1; layer + 1 < n_layers_; ++layer) {
        Between<T> &before = between_[layer - 1];
        if (exchange != nullptr) {
            exchange->forward(travelling_rows(before.messages.data()), n);
        }
        for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
            const TileRows<T> features = feature_rows(before.features.data(), begin);
            middle_[layer - 1].forward(edges_, begin, end, before.messages.data(),
                                       {features.data, features.per_atom, features.per_row},
                                       messages_[layer - 1].data(), rows_out(layer, begin),
                                       scratch);
        });
    }
    if (n_layers_ > 1) {
        if (exchange != nullptr) {
            exchange->forward(travelling_rows(between_.back().messages.data()), n);
        }
        for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
            last_->forward(edges_, begin, end, between_.back().messages.data(), scalars_.data(),
                           scalar_width_, scratch);
            finish_forward(begin, end, scratch);
        });
    }
    return {energies_, variables_};
}

template <typename T>
void NetworkOf<T>::finish_forward(int64_t begin, int64_t end, Scratch<T> &scratch) {
    constexpr int64_t kOutputs = Readout<T>::kOutputs;
    readout_.evaluate(end - begin, edges_.species() + begin,
                      scalars_.data() + begin * scalar_width_,
                      gains_.data() + begin * readout_.n_gains(),
                      readout_outputs_.data() + begin * kOutputs, scratch);
    double *energies = energies_.data_ptr<double>(), *variables = variables_.data_ptr<double>();
    for (int64_t i = begin; i < end; ++i) {
        const T *found = readout_outputs_.data() + i * kOutputs;
        const Outputs out{found[0], found[1], found[2]};
        energies[i] = outputs_.energy(edges_.species(i), out);
        outputs_.variables(edges_.species(i), out, variables + i * n_variables_);
    }
    const EdgeList list = edges_.of_receivers(begin, end);
    for (int64_t k = 0; k < list.count; ++k) {
        const int64_t e = list[k];
        const double *r = list.vectors + 3 * e;
        const double squared = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
        if (repulsion_.reaches(squared)) {
            const int64_t i = edges_.receiver(e);
            energies[i] += repulsion_.half_energy(
                edges_.species(i), edges_.species(edges_.sender(e)), std::sqrt(squared))[0];
        }
    }
}

// Features of all atoms, [n_total, M, channels], without the padding.
template <typename T>
Tensor NetworkOf<T>::travelling_rows(T *rows) const {
    return torch::from_blob(rows, {edges_.n_total(), n_components_, channels_},
                            c10::CppTypeToScalarType<T>::value)
        .narrow(2, 0, n_channels_);
}

// ---- backward ----------------------------------------------------------------------------------

// Over the values themselves, or beside them.
template <typename T>
T *NetworkOf<T>::place_for_gradients(Buffer<T> &values, Buffer<T> &beside, int64_t count,
                                     bool over) {
    return over ? values.data() : beside.ensure(count);
}

// Values of the atoms of a tile, to be read at the places of these atoms: a copy where their
// gradients are about to be written over them.
template <typename T>
const T *NetworkOf<T>::as_they_were(const T *values, const T *by_values, int64_t begin, int64_t end,
                                    Scratch<T> &scratch) const {
    if (values != by_values) {
        return values;
    }
    T *copy = scratch.powers.ensure(kTile * feature_size());
    std::copy_n(values + begin * feature_size(), (end - begin) * feature_size(), copy);
    return copy - begin * feature_size();
}

template <typename T>
Tensor NetworkOf<T>::backward(const OutputWeights &weights, HaloExchange *exchange) {
    const int64_t n = edges_.n_local(), n_total = edges_.n_total();
    const Tensor result = gradient_memory_.get({edges_.n_edges(), 3}, torch::kFloat64);
    double *by_vectors = result.data_ptr<double>();
    const auto in_double = [](const Tensor &values) {
        return values.defined() ? values.to(torch::kFloat64).contiguous() : values;
    };
    const auto data_of = [](const Tensor &values) {
        return values.defined() ? values.data_ptr<double>() : nullptr;
    };
    const Tensor energies = in_double(weights.energies), variables = in_double(weights.variables);
    const WeightRows rows{weights.energy, data_of(energies), data_of(variables)};
    for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        start_backward(begin, end, rows, scratch);
        if (n_layers_ == 1) {
            backward_of_first(begin, end, rows, by_vectors, scratch);
        }
    });
    if (n_layers_ == 1) {
        return result;
    }
    edges_.order_by_sender();
    const bool over = weights.is_last;
    const auto place_of = [&](Between<T> &between) {
        between.by_sent = place_for_gradients(between.messages, between.by_messages,
                                              n_total * feature_size(), over);
    };
    Between<T> &after = between_.back();
    place_of(after);
    for_tiles(n_total, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        const T *x = as_they_were(after.messages.data(), after.by_sent, begin, end, scratch);
        last_->backward_on_senders(edges_, begin, end, x, scalars_.data(), scalar_width_,
                                   after.by_sent, by_vectors, scratch);
    });
    if (exchange != nullptr) {
        exchange->reverse(travelling_rows(after.by_sent), n);
    }
    for (int64_t layer = n_layers_ - 2; layer > 0; --layer) {
        Between<T> &before = between_[layer - 1];
        place_of(before);
        T *by_messages = place_for_gradients(messages_[layer - 1], by_messages_[layer - 1],
                                             n * feature_size(), over);
        for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
            middle_[layer - 1].backward_on_atoms(
                edges_, begin, end, messages_[layer - 1].data(), rows_back(layer, begin),
                by_messages, feature_rows(before.features.data(), begin), scratch);
        });
        for_tiles(n_total, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
            const T *x = as_they_were(before.messages.data(), before.by_sent, begin, end, scratch);
            middle_[layer - 1].backward_on_senders(edges_, begin, end, x, by_messages,
                                                   before.by_sent, by_vectors, scratch);
        });
        if (exchange != nullptr) {
            exchange->reverse(travelling_rows(before.by_sent), n);
        }
    }
    for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        backward_of_first(begin, end, rows, by_vectors, scratch);
    });
    return result;
}

template <typename T>
void NetworkOf<T>::start_backward(int64_t begin, int64_t end, const WeightRows &weights,
                                  Scratch<T> &scratch) {
    constexpr int64_t kOutputs = Readout<T>::kOutputs;
    T *by_outputs = scratch.by_hidden.ensure(kTile * kOutputs);
    std::fill_n(by_outputs, kTile * kOutputs, T(0));
    for (int64_t i = begin; i < end; ++i) {
        const T *found = readout_outputs_.data() + i * kOutputs;
        const Outputs by = outputs_.gradient(
            edges_.species(i), {found[0], found[1], found[2]}, weights.of_energy(i),
            weights.variables ? weights.variables + i * n_variables_ : nullptr);
        for (int64_t k = 0; k < outputs_.n_outputs(); ++k) {
            by_outputs[(i - begin) * kOutputs + k] = T(by[k]);
        }
    }
    readout_.differentiate(end - begin, by_outputs, gains_.data() + begin * readout_.n_gains(),
                           scalars_.data() + begin * scalar_width_, scratch);
}

template <typename T>
void NetworkOf<T>::backward_of_first(int64_t begin, int64_t end, const WeightRows &weights,
                                     double *by_vectors, Scratch<T> &scratch) {
    first_->backward(edges_, begin, end, rows_back(0, begin), by_vectors, n_layers_ > 1, scratch);
    if (!weights.without_energies()) {
        add_repulsion_gradient(edges_.of_receivers(begin, end), weights, by_vectors);
    }
}

template <typename T>
void NetworkOf<T>::add_repulsion_gradient(const EdgeList &list, const WeightRows &weights,
                                          double *by_vectors) const {
    for (int64_t k = 0; k < list.count; ++k) {
        const int64_t e = list[k];
        const double *r = list.vectors + 3 * e;
        const double squared = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
        if (!repulsion_.reaches(squared)) {
            continue;
        }
        const double distance = std::sqrt(squared);
        const int64_t i = edges_.receiver(e);
        const double slope = repulsion_.half_energy(edges_.species(i),
                                                    edges_.species(edges_.sender(e)), distance)[1];
        for (int axis = 0; axis < 3; ++axis) {
            by_vectors[3 * e + axis] += weights.of_energy(i) * slope * r[axis] / distance;
        }
    }
}

}  // namespace

std::unique_ptr<Network> Network::make(const Parts &parts, torch::ScalarType dtype) {
    if (parts.charge_model == ChargeModel::transferred) {
        return nullptr;
    }
    if (dtype == torch::kFloat32) {
        return std::make_unique<NetworkOf<float>>(parts);
    }
    return std::make_unique<NetworkOf<double>>(parts);
}

}  // namespace equicalc::direct
