#include "operators/equivariant_kernels.h"

#include <algorithm>
#include <vector>

#include "vectors/targets.h"

namespace equicalc::kernels {
namespace {

using simd::load;
using simd::store;

// D of one edge.
template <typename T>
EQUICALC_INLINE void contract_harmonics(const CouplingTables<T> &t, const T *harmonics,
                                        T *entries) {
    for (int64_t k = 0; k < t.n_entries; ++k) {
        T value = 0;
        for (int64_t n = t.entry_start[k]; n < t.entry_start[k + 1]; ++n) {
            value += t.coefficient[n] * harmonics[t.term_harmonic[n]];
        }
        entries[k] = value;
    }
}

// One block of channels of one number per path.
template <typename S>
struct PerPath {
    typename S::type of[kMaxPaths];
};

// R of one edge.
template <typename S, typename T>
EQUICALC_INLINE void radial_weights(const EquivariantConvolution<T> &p, const T *radial, int64_t c,
                                    PerPath<S> &out) {
    const int64_t n_paths = p.tables.n_paths;
    for (int64_t path = 0; path < n_paths; ++path) {
        typename S::type value{};
        for (int64_t b = 0; b < p.n_radial; ++b) {
            value += radial[b] * load<S>(p.weight + (b * n_paths + path) * p.n_channels + c);
        }
        out.of[path] = value;
    }
}

// sum over the entries of a row of D x; x points to the block.
template <typename S, typename T>
EQUICALC_INLINE typename S::type row_value(const EquivariantConvolution<T> &p, int64_t row,
                                           const T *entries, const T *x) {
    typename S::type value{};
    for (int64_t k = p.tables.row_start[row]; k < p.tables.row_start[row + 1]; ++k) {
        value += entries[k] * load<S>(x + p.tables.entry_in[k] * p.n_channels);
    }
    return value;
}

// dL/dR of one edge; grad and x point to the block.
template <typename S, typename T>
EQUICALC_INLINE void path_gradients(const EquivariantConvolution<T> &p, const T *entries,
                                    const T *grad, const T *x, PerPath<S> &out) {
    const auto &t = p.tables;
    for (int64_t path = 0; path < t.n_paths; ++path) {
        out.of[path] = typename S::type{};
    }
    for (int64_t row = 0; row < t.n_rows; ++row) {
        out.of[t.row_path[row]] +=
            load<S>(grad + t.row_out[row] * p.n_channels) * row_value<S>(p, row, entries, x);
    }
}

template <typename Target, typename T>
EQUICALC_INLINE void equivariant_body(const EquivariantConvolution<T> &p, const EdgeRows &rows,
                                      int64_t begin, int64_t end, T *sums) {
    const auto &t = p.tables;
    const int64_t size = t.n_components * p.n_channels;
    std::vector<T> entries(t.n_entries);
    for (int64_t i = begin; i < end; ++i) {
        T *out = sums + i * size;
        std::fill_n(out, size, T(0));
        for (int64_t e = rows.start[i]; e < rows.start[i + 1]; ++e) {
            const T *x = p.x + rows.senders[e] * size;
            contract_harmonics(t, p.harmonics + e * t.n_components, entries.data());
            simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
                using S = decltype(s);
                PerPath<S> weight;
                radial_weights<S>(p, p.radial + e * p.n_radial, c, weight);
                for (int64_t row = 0; row < t.n_rows; ++row) {
                    T *target = out + t.row_out[row] * p.n_channels + c;
                    store<S>(target,
                             load<S>(target) + weight.of[t.row_path[row]] *
                                                   row_value<S>(p, row, entries.data(), x + c));
                }
            });
        }
    }
}

// dL/dB of one edge, one block of channels.
template <typename S, typename T>
EQUICALC_INLINE void add_radial_gradient(const EquivariantConvolution<T> &p, const T *entries,
                                         const T *grad, const T *x, int64_t c, auto *sums) {
    PerPath<S> by_path;
    path_gradients<S>(p, entries, grad + c, x + c, by_path);
    for (int64_t b = 0; b < p.n_radial; ++b) {
        typename S::type value{};
        for (int64_t path = 0; path < p.tables.n_paths; ++path) {
            const T *weight = p.weight + (b * p.tables.n_paths + path) * p.n_channels + c;
            value += by_path.of[path] * load<S>(weight);
        }
        sums[b].template add<S>(value);
    }
}

// dL/dY of one edge, one block of channels.
template <typename S, typename T>
EQUICALC_INLINE void add_harmonic_gradient(const EquivariantConvolution<T> &p, const T *radial,
                                           const T *grad, const T *x, int64_t c, auto *sums) {
    const auto &t = p.tables;
    PerPath<S> weight;
    radial_weights<S>(p, radial, c, weight);
    for (int64_t row = 0; row < t.n_rows; ++row) {
        const auto g =
            weight.of[t.row_path[row]] * load<S>(grad + t.row_out[row] * p.n_channels + c);
        for (int64_t k = t.row_start[row]; k < t.row_start[row + 1]; ++k) {
            const auto value = g * load<S>(x + t.entry_in[k] * p.n_channels + c);
            for (int64_t n = t.entry_start[k]; n < t.entry_start[k + 1]; ++n) {
                sums[t.term_harmonic[n]].template add<S>(t.coefficient[n] * value);
            }
        }
    }
}

template <typename Target, typename T>
EQUICALC_INLINE void edges_body(const EquivariantConvolution<T> &p, const EdgeRows &rows,
                                int64_t begin, int64_t end, const T *grad_out, T *grad_radial,
                                T *grad_harmonics) {
    const auto &t = p.tables;
    const int64_t size = t.n_components * p.n_channels;
    std::vector<T> entries(t.n_entries);
    for (int64_t i = begin; i < end; ++i) {
        const T *grad = grad_out + i * size;
        for (int64_t e = rows.start[i]; e < rows.start[i + 1]; ++e) {
            const T *x = p.x + rows.senders[e] * size, *radial = p.radial + e * p.n_radial;
            simd::Accumulator<Target, T> db[kMaxRadial] = {};
            simd::Accumulator<Target, T> dy[kMaxComponents] = {};
            contract_harmonics(t, p.harmonics + e * t.n_components, entries.data());
            simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
                using S = decltype(s);
                if (grad_radial) {
                    add_radial_gradient<S>(p, entries.data(), grad, x, c, db);
                }
                if (grad_harmonics) {
                    add_harmonic_gradient<S>(p, radial, grad, x, c, dy);
                }
            });
            for (int64_t b = 0; grad_radial && b < p.n_radial; ++b) {
                grad_radial[e * p.n_radial + b] = db[b].total();
            }
            for (int64_t m = 0; grad_harmonics && m < t.n_components; ++m) {
                grad_harmonics[e * t.n_components + m] = dy[m].total();
            }
        }
    }
}

template <typename Target, typename T>
EQUICALC_INLINE void senders_body(const EquivariantConvolution<T> &p, const SenderRows &rows,
                                  int64_t begin, int64_t end, const T *grad_out, T *grad_x) {
    const auto &t = p.tables;
    const int64_t size = t.n_components * p.n_channels;
    std::vector<T> entries(t.n_entries);
    for (int64_t j = begin; j < end; ++j) {
        T *out = grad_x + j * size;
        std::fill_n(out, size, T(0));
        for (int64_t n = rows.start[j]; n < rows.start[j + 1]; ++n) {
            const int64_t e = rows.edges[n];
            const T *grad = grad_out + rows.receivers[e] * size;
            contract_harmonics(t, p.harmonics + e * t.n_components, entries.data());
            simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
                using S = decltype(s);
                PerPath<S> weight;
                radial_weights<S>(p, p.radial + e * p.n_radial, c, weight);
                for (int64_t row = 0; row < t.n_rows; ++row) {
                    const auto g = weight.of[t.row_path[row]] *
                                   load<S>(grad + t.row_out[row] * p.n_channels + c);
                    for (int64_t k = t.row_start[row]; k < t.row_start[row + 1]; ++k) {
                        T *target = out + t.entry_in[k] * p.n_channels + c;
                        store<S>(target, load<S>(target) + entries[k] * g);
                    }
                }
            });
        }
    }
}

template <typename Target, typename T>
EQUICALC_INLINE void weights_body(const EquivariantConvolution<T> &p, const EdgeRows &rows,
                                  int64_t begin, int64_t end, const T *grad_out, T *grad_weight) {
    const auto &t = p.tables;
    const int64_t size = t.n_components * p.n_channels;
    std::vector<T> entries(t.n_entries);
    for (int64_t i = begin; i < end; ++i) {
        const T *grad = grad_out + i * size;
        for (int64_t e = rows.start[i]; e < rows.start[i + 1]; ++e) {
            const T *x = p.x + rows.senders[e] * size, *radial = p.radial + e * p.n_radial;
            contract_harmonics(t, p.harmonics + e * t.n_components, entries.data());
            simd::for_channels<Target, T>(p.n_channels, [&](auto s, int64_t c) EQUICALC_LAMBDA {
                using S = decltype(s);
                PerPath<S> by_path;
                path_gradients<S>(p, entries.data(), grad + c, x + c, by_path);
                for (int64_t b = 0; b < p.n_radial; ++b) {
                    for (int64_t path = 0; path < t.n_paths; ++path) {
                        T *target = grad_weight + (b * t.n_paths + path) * p.n_channels + c;
                        store<S>(target, load<S>(target) + radial[b] * by_path.of[path]);
                    }
                }
            });
        }
    }
}

// The loops as what simd::run takes.
EQUICALC_BODY(EquivariantLoop, equivariant_body)
EQUICALC_BODY(EdgesLoop, edges_body)
EQUICALC_BODY(SendersLoop, senders_body)
EQUICALC_BODY(WeightsLoop, weights_body)

}  // namespace

#define EQUICALC_INSTANTIATE(T)                                                               \
    void equivariant(const EquivariantConvolution<T> &p, const EdgeRows &rows, int64_t begin, \
                     int64_t end, T *out) {                                                   \
        simd::run<EquivariantLoop>(p, rows, begin, end, out);                                 \
    }                                                                                         \
    void equivariant_edges(const EquivariantConvolution<T> &p, const EdgeRows &rows,          \
                           int64_t begin, int64_t end, const T *grad, T *grad_radial,         \
                           T *grad_harmonics) {                                               \
        simd::run<EdgesLoop>(p, rows, begin, end, grad, grad_radial, grad_harmonics);         \
    }                                                                                         \
    void equivariant_senders(const EquivariantConvolution<T> &p, const SenderRows &rows,      \
                             int64_t begin, int64_t end, const T *grad, T *grad_x) {          \
        simd::run<SendersLoop>(p, rows, begin, end, grad, grad_x);                            \
    }                                                                                         \
    void equivariant_weights(const EquivariantConvolution<T> &p, const EdgeRows &rows,        \
                             int64_t begin, int64_t end, const T *grad, T *grad_weight) {     \
        simd::run<WeightsLoop>(p, rows, begin, end, grad, grad_weight);                       \
    }

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::kernels
