#include "direct/update.h"

#include <algorithm>

namespace equicalc::direct {

using torch::Tensor;

template <typename T>
Update<T>::Update(const Parts &parts, const std::string &product, const std::vector<Tensor> &skip,
                  bool skips_first, const std::string &next, bool next_skips)
    : has_skip_(!skip.empty()),
      has_next_(!next.empty()),
      next_skips_(next_skips),
      has_vectors_(!next_skips && parts.l_max > 0 &&
                   parts.charge_model == ChargeModel::transferred),
      powers_(parts, product,
              has_next_      ? parts.l_max
              : has_vectors_ ? 1
                             : 0),
      unused_(skips_first ? padded<T>(parts.channels) : 0) {
    const auto mixing_of_groups = [](const std::vector<Tensor> &matrices, int64_t group) {
        std::vector<Tensor> padded_ones;
        for (const Tensor &matrix : matrices) {
            padded_ones.push_back(pad_groups(matrix, group, padded<T>(group)));
        }
        return Mixing<T>(padded_ones);
    };
    const auto mixing = [&](const std::vector<Tensor> &matrices) {
        return mixing_of_groups(matrices, parts.channels);
    };
    const auto mixing_of_skip = [&](const std::vector<Tensor> &matrices) {
        return mixing_of_groups(matrices, skip[0].size(0));
    };
    const auto then = [](const std::vector<Tensor> &first, const std::vector<Tensor> &second) {
        std::vector<Tensor> both;
        for (size_t degree = 0; degree < first.size(); ++degree) {
            both.push_back(first[degree].mm(second[degree]));
        }
        return both;
    };
    std::vector<Tensor> product_mixing = parts.per_degree(product + ".mixing.weights");
    for (Tensor &matrix : product_mixing) {
        matrix = matrix.slice(0, skips_first ? parts.channels : 0);
    }
    const std::vector<Tensor> linear = has_next_ ? parts.per_degree(next) : std::vector<Tensor>();
    if (next_skips_) {
        to_features_ = mixing(product_mixing);
        skip_to_features_ = has_skip_ ? mixing_of_skip(skip) : Mixing<T>();
        to_messages_ = mixing(linear);
        return;
    }
    to_scalars_ = mixing({product_mixing[0]});
    if (has_skip_) {
        skip_to_scalars_ = mixing_of_skip({skip[0]});
    }
    if (has_next_) {
        to_messages_ = mixing(then(product_mixing, linear));
        skip_to_messages_ = has_skip_ ? mixing_of_skip(then(skip, linear)) : Mixing<T>();
    }
    if (has_vectors_) {
        const Tensor vectors = parts.tensor("charge_head.vectors");
        to_vectors_ = mixing({product_mixing[1].mm(vectors)});
        skip_to_vectors_ = has_skip_ ? mixing_of_skip({skip[1].mm(vectors)}) : Mixing<T>();
    }
}

template <typename T>
void Update<T>::mix_vectors(const Mixing<T> &mixing, int64_t n_atoms, TileRows<const T> features,
                            TileRows<T> vectors, bool add, Scratch<T> &scratch) {
    for (int64_t m = 1; m < 4; ++m) {
        features.data += features.per_row;
        vectors.data += vectors.per_row;
        mixing.apply(n_atoms, features, vectors, add, scratch);
    }
}

template <typename T>
void Update<T>::mix_vectors_back(const Mixing<T> &mixing, int64_t n_atoms,
                                 TileRows<const T> by_vectors, TileRows<T> by_features,
                                 Scratch<T> &scratch) {
    for (int64_t m = 1; m < 4; ++m) {
        by_vectors.data += by_vectors.per_row;
        by_features.data += by_features.per_row;
        mixing.apply_transposed(n_atoms, by_vectors, by_features, true, scratch);
    }
}

template <typename T>
void Update<T>::forward(int64_t n_atoms, const T *powers, TileRows<const T> before,
                        const UpdateRows<T> &to, Scratch<T> &scratch) const {
    const TileRows<const T> from{powers + unused_, powers_.size(), powers_.width()};
    const auto read_only = [](const TileRows<T> &rows) {
        return TileRows<const T>{rows.data, rows.per_atom, rows.per_row};
    };
    if (next_skips_) {
        to_features_.apply(n_atoms, from, to.features, false, scratch);
        if (has_skip_) {
            skip_to_features_.apply(n_atoms, before, to.features, true, scratch);
        }
        to_messages_.apply(n_atoms, read_only(to.features), to.messages, false, scratch);
        return;
    }
    to_scalars_.apply(n_atoms, from, to.scalars, false, scratch);
    if (has_next_) {
        to_messages_.apply(n_atoms, from, to.messages, false, scratch);
    }
    if (has_vectors_) {
        mix_vectors(to_vectors_, n_atoms, from, to.vectors, false, scratch);
    }
    if (has_skip_) {
        skip_to_scalars_.apply(n_atoms, before, to.scalars, true, scratch);
        skip_to_messages_.apply(n_atoms, before, to.messages, true, scratch);
        if (has_vectors_) {
            mix_vectors(skip_to_vectors_, n_atoms, before, to.vectors, true, scratch);
        }
    }
}

template <typename T>
void Update<T>::backward(int64_t n_atoms, const UpdateRows<T> &by, T *by_powers,
                         TileRows<T> by_before, Scratch<T> &scratch) const {
    const TileRows<T> to{by_powers + unused_, powers_.size(), powers_.width()};
    for (int64_t row = 0; unused_ > 0 && row < n_atoms * powers_.n_components(); ++row) {
        std::fill_n(by_powers + row * powers_.width(), unused_, T(0));
    }
    const auto read_only = [](const TileRows<T> &rows) {
        return TileRows<const T>{rows.data, rows.per_atom, rows.per_row};
    };
    if (next_skips_) {
        to_messages_.apply_transposed(n_atoms, read_only(by.messages), by.features, true, scratch);
        to_features_.apply_transposed(n_atoms, read_only(by.features), to, false, scratch);
        if (has_skip_) {
            skip_to_features_.apply_transposed(n_atoms, read_only(by.features), by_before, false,
                                               scratch);
        }
        return;
    }
    if (has_next_) {
        to_messages_.apply_transposed(n_atoms, read_only(by.messages), to, false, scratch);
    } else {
        std::fill_n(by_powers, n_atoms * powers_.size(), T(0));
    }
    to_scalars_.apply_transposed(n_atoms, read_only(by.scalars), to, true, scratch);
    if (has_vectors_) {
        mix_vectors_back(to_vectors_, n_atoms, read_only(by.vectors), to, scratch);
    }
    if (has_skip_) {
        if (!has_next_) {
            std::fill_n(by_before.data, n_atoms * by_before.per_atom, T(0));
        }
        skip_to_messages_.apply_transposed(n_atoms, read_only(by.messages), by_before, false,
                                           scratch);
        skip_to_scalars_.apply_transposed(n_atoms, read_only(by.scalars), by_before, true, scratch);
        if (has_vectors_) {
            mix_vectors_back(skip_to_vectors_, n_atoms, read_only(by.vectors), by_before, scratch);
        }
    }
}

template class Update<float>;
template class Update<double>;

}  // namespace equicalc::direct
