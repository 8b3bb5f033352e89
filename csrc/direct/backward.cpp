#include <algorithm>
#include <cmath>

#include "direct/network_of.h"

namespace equicalc::direct {

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
        if (transfer_) {
            rows.vectors = Transfer<T>::vectors(flow_.by_ends.data() + atom * Transfer<T>::kSize);
        }
    }
    return rows;
}

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
    const int64_t n = edges_.n_local();
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
        if (n_layers_ == 1 && !transfer_) {
            backward_of_first(begin, end, rows, by_vectors, scratch);
        }
    });
    if (n_layers_ == 1 && !transfer_) {
        return result;
    }
    edges_.order_by_sender();
    if (n_layers_ > 1) {
        backward_of_last(weights.is_last, by_vectors, exchange);
    }
    if (transfer_) {
        transfer_backward(rows, by_vectors, exchange);
    }
    for (int64_t layer = n_layers_ - 2; layer > 0; --layer) {
        backward_of_middle(layer, weights.is_last, by_vectors, exchange);
    }
    for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        backward_of_first(begin, end, rows, by_vectors, scratch);
    });
    return result;
}

template <typename T>
void NetworkOf<T>::backward_of_last(bool over, double *by_vectors, HaloExchange *exchange) {
    const int64_t n_total = edges_.n_total();
    Between<T> &after = between_.back();
    after.by_sent =
        place_for_gradients(after.messages, after.by_messages, n_total * feature_size(), over);
    for_tiles(n_total, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        const T *x = as_they_were(after.messages.data(), after.by_sent, begin, end, scratch);
        last_->backward_on_senders(edges_, begin, end, x, scalars_.data(), scalar_width_,
                                   after.by_sent, by_vectors, scratch);
    });
    if (exchange != nullptr) {
        exchange->reverse(travelling_rows(after.by_sent), edges_.n_local());
    }
}

template <typename T>
void NetworkOf<T>::backward_of_middle(int64_t layer, bool over, double *by_vectors,
                                      HaloExchange *exchange) {
    const int64_t n = edges_.n_local(), n_total = edges_.n_total();
    Between<T> &before = between_[layer - 1];
    before.by_sent =
        place_for_gradients(before.messages, before.by_messages, n_total * feature_size(), over);
    T *by_messages = place_for_gradients(messages_[layer - 1], by_messages_[layer - 1],
                                         n * feature_size(), over);
    for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        if (layer + 2 == n_layers_) {
            differentiate_potentials(begin, end, scratch);
        }
        middle_[layer - 1].backward_on_atoms(edges_, begin, end, messages_[layer - 1].data(),
                                             rows_back(layer, begin), by_messages,
                                             feature_rows(before.features.data(), begin), scratch);
    });
    for_tiles(n_total, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        const T *x = as_they_were(before.messages.data(), before.by_sent, begin, end, scratch);
        middle_[layer - 1].backward_on_senders(edges_, begin, end, x, by_messages, before.by_sent,
                                               by_vectors, scratch);
    });
    if (exchange != nullptr) {
        exchange->reverse(travelling_rows(before.by_sent), n);
    }
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
    if (n_layers_ <= 2) {
        differentiate_potentials(begin, end, scratch);
    }
    first_->backward(edges_, begin, end, rows_back(0, begin), by_vectors,
                     n_layers_ > 1 || transfer_, scratch);
    for (int64_t i = begin; i < end && !weights.without_energies(); ++i) {
        if (repelled_.data()[i]) {
            add_repulsion_gradient(edges_.of_receivers(i, i + 1), weights, by_vectors);
        }
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

// ---- charge transfer ----------------------------------------------------------------------------

template <typename T>
void NetworkOf<T>::transfer_backward(const WeightRows &weights, double *by_vectors,
                                     HaloExchange *exchange) {
    const int64_t n = edges_.n_local(), n_total = edges_.n_total();
    T *by_ends = flow_.by_ends.ensure(n_total * Transfer<T>::kSize);
    std::fill_n(by_ends, n_total * Transfer<T>::kSize, T(0));
    const double *by_variables = weights.variables;
    std::vector<double> zeros;
    if (by_variables == nullptr) {  // nothing flows back, and every rank takes part all the same
        zeros.assign(n * n_variables_, 0.0);
        by_variables = zeros.data();
    }
    for_tiles(n, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        transfer_->backward_on_receivers(edges_, begin, end, flow_.ends.data(), by_variables,
                                         by_ends, by_vectors, n_layers_ > 1, scratch);
    });
    for_tiles(n_total, [&](int64_t begin, int64_t end, Scratch<T> &scratch) {
        transfer_->backward_on_senders(edges_, begin, end, by_variables, by_ends, scratch);
    });
    if (exchange != nullptr) {
        exchange->reverse(travelling_ends(by_ends), n);
    }
}

template <typename T>
void NetworkOf<T>::differentiate_potentials(int64_t begin, int64_t end, Scratch<T> &scratch) {
    if (transfer_) {
        T *by_scalars = scalars_.data() + (begin + 1) * scalar_width_ - channels_;
        transfer_->differentiate_potentials(end - begin,
                                            flow_.by_ends.data() + begin * Transfer<T>::kSize,
                                            flow_.gains.data() + begin * transfer_->n_gains(),
                                            {by_scalars, scalar_width_, 0}, scratch);
    }
}

template Tensor NetworkOf<float>::backward(const OutputWeights &, HaloExchange *);
template Tensor NetworkOf<double>::backward(const OutputWeights &, HaloExchange *);

}  // namespace equicalc::direct
