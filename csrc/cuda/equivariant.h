// equicalc::equivariant_convolution for groups of lanes; what it computes is in
// equivariant_kernels.h. D of an edge is made by all lanes together, in the memory of the group.
#pragma once

#include "operators/equivariant_kernels.h"
#include "cuda/convolution.h"
#include "cuda/lanes.h"
#include "cuda/shapes.h"

namespace equicalc::groups {

// D of one edge; groups call it together.
template <typename T, typename Group>
EQUICALC_BOTH void contract_harmonics(const kernels::CouplingTables<T> &t, const T *harmonics,
                                      const Group &group, T *entries) {
    group.meet();  // lanes may still read D of the edge before
    for (int64_t k = group.index(); k < t.n_entries; k += Group::kWidth) {
        T value = 0;
        for (int64_t n = t.entry_start[k]; n < t.entry_start[k + 1]; ++n) {
            value += t.coefficient[n] * harmonics[t.term_harmonic[n]];
        }
        entries[k] = value;
    }
    group.meet();
}

// R of one edge, path and channel.
template <typename T>
EQUICALC_BOTH T radial_weight(const kernels::EquivariantConvolution<T> &p, const T *radial,
                              int64_t path, int64_t c) {
    const int64_t stride = p.tables.n_paths * p.n_channels;
    const T *weight = p.weight + path * p.n_channels + c;
    T value = 0;
    for (int64_t b = 0; b < p.n_radial; ++b) {
        value += radial[b] * weight[b * stride];
    }
    return value;
}

// sum over the entries of a row of D x; x points to the channel.
template <typename T>
EQUICALC_BOTH T row_value(const kernels::EquivariantConvolution<T> &p, int64_t row,
                          const T *entries, const T *x) {
    T value = 0;
    for (int64_t k = p.tables.row_start[row]; k < p.tables.row_start[row + 1]; ++k) {
        value += entries[k] * x[p.tables.entry_in[k] * p.n_channels];
    }
    return value;
}

// Calls body(path, first row, last row): rows of a path are neighbours.
template <typename T, typename Body>
EQUICALC_BOTH void for_paths(const kernels::CouplingTables<T> &t, const Body &body) {
    int64_t first = 0;
    while (first < t.n_rows) {
        const int64_t path = t.row_path[first];
        int64_t last = first + 1;
        while (last < t.n_rows && t.row_path[last] == path) {
            ++last;
        }
        body(path, first, last);
        first = last;
    }
}

// Channels go in rounds, so that all lanes of a group meet equally often.
template <typename Group>
EQUICALC_BOTH int64_t rounds(int64_t n_channels) {
    return (n_channels + Group::kWidth - 1) / Group::kWidth;
}

// Of a receiver: messages [i, m, c].
template <typename T, int L>
struct EquivariantValues {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::EquivariantConvolution<T> p;
    Edges edges;
    T *out;

    int64_t memory_bytes() const { return p.tables.n_entries * sizeof(T); }

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t i, const Group &group) const {
        const auto &t = p.tables;
        T *entries = static_cast<T *>(group.memory);
        for (int64_t round = 0; round < rounds<Group>(p.n_channels); ++round) {
            const int64_t c = round * Group::kWidth + group.index();
            T sum[M] = {};
            for (int64_t e = edges.start[i]; e < edges.start[i + 1]; ++e) {
                contract_harmonics(t, p.harmonics + e * M, group, entries);
                if (c >= p.n_channels) {
                    continue;
                }
                const T *x = p.x + edges.senders[e] * M * p.n_channels + c;
                for_paths(t, [&](int64_t path, int64_t first, int64_t last) {
                    const T weight = radial_weight(p, p.radial + e * p.n_radial, path, c);
                    for (int64_t row = first; row < last; ++row) {
                        sum[t.row_out[row]] += weight * row_value(p, row, entries, x);
                    }
                });
            }
            for (int m = 0; c < p.n_channels && m < M; ++m) {
                out[(i * M + m) * p.n_channels + c] = sum[m];
            }
        }
    }
};

// Of an edge: dL/dB and dL/dY; either may be null.
template <typename T, int L, int B>
struct EquivariantEdges {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::EquivariantConvolution<T> p;
    Edges edges;
    const T *grad;
    T *grad_radial, *grad_harmonics;

    int64_t memory_bytes() const { return p.tables.n_entries * sizeof(T); }

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &group) const {
        T *entries = static_cast<T *>(group.memory);
        contract_harmonics(p.tables, p.harmonics + e * M, group, entries);
        T dy[M] = {}, db[B] = {};
        for (int64_t c = group.index(); c < p.n_channels; c += Group::kWidth) {
            const T *x = p.x + edges.senders[e] * M * p.n_channels + c;
            const T *g = grad + edges.receivers[e] * M * p.n_channels + c;
            if (grad_radial != nullptr) {
                add_radial_gradient(entries, x, g, c, db);
            }
            if (grad_harmonics != nullptr) {
                add_harmonic_gradient(p.radial + e * p.n_radial, x, g, c, dy);
            }
        }
        if (grad_radial != nullptr) {
            store_sums<B>(group, db, p.n_radial, grad_radial + e * p.n_radial);
        }
        if (grad_harmonics != nullptr) {
            store_sums<M>(group, dy, M, grad_harmonics + e * M);
        }
    }

    EQUICALC_BOTH void add_radial_gradient(const T *entries, const T *x, const T *g, int64_t c,
                                           T *db) const {
        const auto &t = p.tables;
        for_paths(t, [&](int64_t path, int64_t first, int64_t last) {
            T by_path = 0;
            for (int64_t row = first; row < last; ++row) {
                by_path += g[t.row_out[row] * p.n_channels] * row_value(p, row, entries, x);
            }
            const T *weight = p.weight + path * p.n_channels + c;
            EQUICALC_UNROLL_RADIAL
            for (int b = 0; b < B; ++b) {
                db[b] += b < p.n_radial ? by_path * weight[b * t.n_paths * p.n_channels] : T(0);
            }
        });
    }

    EQUICALC_BOTH void add_harmonic_gradient(const T *radial, const T *x, const T *g, int64_t c,
                                             T *dy) const {
        const auto &t = p.tables;
        for_paths(t, [&](int64_t path, int64_t first, int64_t last) {
            const T weight = radial_weight(p, radial, path, c);
            for (int64_t row = first; row < last; ++row) {
                const T by_row = weight * g[t.row_out[row] * p.n_channels];
                for (int64_t k = t.row_start[row]; k < t.row_start[row + 1]; ++k) {
                    const T value = by_row * x[t.entry_in[k] * p.n_channels];
                    for (int64_t n = t.entry_start[k]; n < t.entry_start[k + 1]; ++n) {
                        dy[t.term_harmonic[n]] += t.coefficient[n] * value;
                    }
                }
            }
        });
    }
};

// Of a sender: dL/dx [j, m, c].
template <typename T, int L>
struct EquivariantSenders {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::EquivariantConvolution<T> p;
    kernels::SenderRows rows;
    const T *grad;
    T *grad_x;

    int64_t memory_bytes() const { return p.tables.n_entries * sizeof(T); }

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t j, const Group &group) const {
        const auto &t = p.tables;
        T *entries = static_cast<T *>(group.memory);
        for (int64_t round = 0; round < rounds<Group>(p.n_channels); ++round) {
            const int64_t c = round * Group::kWidth + group.index();
            T sum[M] = {};
            for (int64_t n = rows.start[j]; n < rows.start[j + 1]; ++n) {
                const int64_t e = rows.edges[n];
                contract_harmonics(t, p.harmonics + e * M, group, entries);
                if (c >= p.n_channels) {
                    continue;
                }
                const T *g = grad + rows.receivers[e] * M * p.n_channels + c;
                for_paths(t, [&](int64_t path, int64_t first, int64_t last) {
                    const T weight = radial_weight(p, p.radial + e * p.n_radial, path, c);
                    for (int64_t row = first; row < last; ++row) {
                        const T by_row = weight * g[t.row_out[row] * p.n_channels];
                        for (int64_t k = t.row_start[row]; k < t.row_start[row + 1]; ++k) {
                            sum[t.entry_in[k]] += entries[k] * by_row;
                        }
                    }
                });
            }
            for (int m = 0; c < p.n_channels && m < M; ++m) {
                grad_x[(j * M + m) * p.n_channels + c] = sum[m];
            }
        }
    }
};

// Of a chunk of receivers: its part of dL/dW, [chunks, B, P, C], added to zeros.
template <typename T, int L>
struct EquivariantWeights {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::EquivariantConvolution<T> p;
    Edges edges;
    int64_t n_receivers, receivers_per_chunk;
    const T *grad;
    T *sums;

    int64_t memory_bytes() const { return p.tables.n_entries * sizeof(T); }

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t chunk, const Group &group) const {
        const auto &t = p.tables;
        T *entries = static_cast<T *>(group.memory);
        const int64_t begin = chunk * receivers_per_chunk;
        const int64_t end = begin + receivers_per_chunk;
        const int64_t width = t.n_paths * p.n_channels;
        T *out = sums + chunk * p.n_radial * width;
        for (int64_t i = begin; i < end && i < n_receivers; ++i) {
            for (int64_t e = edges.start[i]; e < edges.start[i + 1]; ++e) {
                contract_harmonics(t, p.harmonics + e * M, group, entries);
                const T *radial = p.radial + e * p.n_radial;
                for (int64_t c = group.index(); c < p.n_channels; c += Group::kWidth) {
                    const T *x = p.x + edges.senders[e] * M * p.n_channels + c;
                    const T *g = grad + i * M * p.n_channels + c;
                    for_paths(t, [&](int64_t path, int64_t first, int64_t last) {
                        T by_path = 0;
                        for (int64_t row = first; row < last; ++row) {
                            by_path +=
                                g[t.row_out[row] * p.n_channels] * row_value(p, row, entries, x);
                        }
                        for (int64_t b = 0; b < p.n_radial; ++b) {
                            out[b * width + path * p.n_channels + c] += radial[b] * by_path;
                        }
                    });
                }
            }
        }
    }
};

template <typename Registry>
void add_equivariant_convolutions() {
    for_degrees([]<typename T, int L>(Degrees<T, L>) {
        Registry::template add<EquivariantValues<T, L>>();
        Registry::template add<EquivariantEdges<T, L, kManyRadial>>();
        Registry::template add<EquivariantSenders<T, L>>();
        Registry::template add<EquivariantWeights<T, L>>();
    });
    for_degrees([]<typename T, int L>(Degrees<T, L>) {
        Registry::template add<EquivariantEdges<T, L, kFewRadial>>();
    });
}

}  // namespace equicalc::groups
