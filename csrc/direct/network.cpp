#include "direct/network.h"

#include <algorithm>
#include <cmath>

#include "direct/network_of.h"

namespace equicalc::direct {

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
    if (parts.charge_model == ChargeModel::transferred) {
        transfer_.emplace(parts);
    }
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
        if (transfer_) {
            rows.vectors = Transfer<T>::vectors(flow_.ends.data() + atom * Transfer<T>::kSize);
        }
    }
    return rows;
}

template <typename T>
void NetworkOf<T>::prepare(const Graph &graph, HaloExchange *exchange) {
    edges_.build(graph, n_species_);
    const int64_t n = edges_.n_local(), n_total = edges_.n_total();
    const bool alone = n_layers_ == 1 && !transfer_;  // no atom needs to know another's features
    TORCH_CHECK(exchange != nullptr || alone || n == n_total, "equicalc::exchange: the graph has ",
                n_total, " atoms but only ", n,
                " of them have features, and no halo exchange is set. On one rank map periodic "
                "images to their owners (n_total == n_local)");
    energies_ = variables_ = Tensor();
    energies_ = energy_memory_.get({n}, torch::kFloat64);
    variables_ = variable_memory_.get({n, n_variables_}, torch::kFloat64).zero_();
    scalars_.ensure(n * scalar_width_);
    gains_.ensure(n * readout_.n_gains());
    readout_outputs_.ensure(n * Readout<T>::kOutputs);
    std::fill_n(repelled_.ensure(n), n, uint8_t(0));
    for (Between<T> &between : between_) {
        between.messages.ensure(n_total * feature_size());
        if (between.has_features) {
            between.features.ensure(n * feature_size());
        }
    }
    for (Buffer<T> &messages : messages_) {
        messages.ensure(n * feature_size());
    }
    if (transfer_) {
        flow_.ends.ensure(n_total * Transfer<T>::kSize);
        flow_.gains.ensure(n * transfer_->n_gains());
    }
}

template <typename T>
ForwardResult NetworkOf<T>::forward(const Graph &graph, HaloExchange *exchange) {
    prepare(graph, exchange);
    const int64_t n = edges_.n_local();
    for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        first_->forward(edges_, begin, end, rows_out(0, begin), scratch);
        if (n_layers_ <= 2) {
            find_potentials(begin, end, scratch);
        }
        if (n_layers_ == 1) {
            finish_forward(begin, end, scratch);
        }
    });
    for (int64_t layer = 1; layer + 1 < n_layers_; ++layer) {
        Between<T> &before = between_[layer - 1];
        if (exchange != nullptr) {
            receive_messages(before, exchange);
        }
        for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
            const TileRows<T> features = feature_rows(before.features.data(), begin);
            middle_[layer - 1].forward(edges_, begin, end, before.messages.data(),
                                       {features.data, features.per_atom, features.per_row},
                                       messages_[layer - 1].data(), rows_out(layer, begin),
                                       scratch);
            if (layer + 2 == n_layers_) {
                find_potentials(begin, end, scratch);
            }
        });
    }
    if (n_layers_ > 1) {
        if (exchange != nullptr) {
            receive_messages(between_.back(), exchange);
        }
        for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
            last_->forward(edges_, begin, end, between_.back().messages.data(), scalars_.data(),
                           scalar_width_, scratch);
            finish_forward(begin, end, scratch);
        });
    }
    if (transfer_) {
        transfer_forward(exchange);
    }
    return {energies_, variables_};
}

template <typename T>
void NetworkOf<T>::receive_messages(Between<T> &between, HaloExchange *exchange) {
    exchange->forward(travelling_rows(between.messages.data()), edges_.n_local());
    clear_padding_of_ghosts(between.messages.data(), n_components_, n_channels_, channels_);
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
            repelled_.data()[i] = 1;
            energies[i] += repulsion_.half_energy(
                edges_.species(i), edges_.species(edges_.sender(e)), std::sqrt(squared))[0];
        }
    }
}

// ---- charge transfer ----------------------------------------------------------------------------

template <typename T>
void NetworkOf<T>::find_potentials(int64_t begin, int64_t end, Scratch<T> &scratch) {
    if (transfer_) {
        const T *scalars = scalars_.data() + (begin + 1) * scalar_width_ - channels_;
        transfer_->potentials(end - begin, edges_.species() + begin, {scalars, scalar_width_, 0},
                              flow_.gains.data() + begin * transfer_->n_gains(),
                              flow_.ends.data() + begin * Transfer<T>::kSize, scratch);
    }
}

template <typename T>
void NetworkOf<T>::transfer_forward(HaloExchange *exchange) {
    const int64_t n = edges_.n_local();
    if (exchange != nullptr) {
        exchange->forward(travelling_ends(flow_.ends.data()), n);
        clear_padding_of_ghosts(flow_.ends.data(), 4, kTransferChannels, kTransferRow<T>);
    }
    double *variables = variables_.data_ptr<double>();
    for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        transfer_->forward(edges_, begin, end, flow_.ends.data(), variables, scratch);
    });
}

std::unique_ptr<Network> Network::make(const Parts &parts, torch::ScalarType dtype) {
    if (dtype == torch::kFloat32) {
        return std::make_unique<NetworkOf<float>>(parts);
    }
    return std::make_unique<NetworkOf<double>>(parts);
}

}  // namespace equicalc::direct
