// equicalc::tensor_convolution for groups of lanes, one path at a time; what it computes is in
// tensor_kernels.h. Here features stay as they are in rows, and D of an edge is made by all lanes
// together, in the memory of the group.
#pragma once

#include "operators/tensor_kernels.h"
#include "operators/tensor_terms.h"
#include "cuda/convolution.h"
#include "cuda/equivariant.h"
#include "cuda/lanes.h"
#include "cuda/spline.h"

namespace equicalc::groups {

// A path, and the edges that it is summed over.
template <typename T>
struct PathInputs {
    kernels::TensorCoupling<T> coupling;
    int64_t n_channels;
    const T *table;  // [blocks of the path, table_rows, kBlock]
    int64_t table_rows;
    const T *x;  // first feature of the input block of the first sender
    int64_t width_in, width_out;
    int64_t out_component;  // from one component of the output to the next
    const int32_t *row;     // [E], of the splines
    const T *weights, *slopes;
    const T *harmonics;  // [E, n_harmonics]
    int64_t n_harmonics;

    // The first of four rows of the table for one edge and channel, kBlock apart.
    EQUICALC_BOTH const T *rows_of(int64_t e, int64_t c) const {
        return table + (c / kernels::kBlock * table_rows + row[e]) * kernels::kBlock +
               c % kernels::kBlock;
    }
    static EQUICALC_BOTH T spline(const T *rows, const T *factors) {
        T value = 0;
        EQUICALC_UNROLL
        for (int k = 0; k < 4; ++k) {
            value += factors[k] * rows[k * kernels::kBlock];
        }
        return value;
    }
};

// D of one edge, [A, B]; groups call it together.
template <int L1, int A, int B, typename T, typename Group>
EQUICALC_BOTH void rotate(const PathInputs<T> &p, int64_t e, const Group &group, T *d) {
    const T *y = p.harmonics + e * p.n_harmonics + L1 * L1;
    group.meet();  // lanes may still read D of the edge before
    for (int k = group.index(); k < A * B; k += Group::kWidth) {
        T value = 0;
        EQUICALC_UNROLL
        for (int m = 0; m < 2 * L1 + 1; ++m) {
            value += p.coupling.values[m * p.coupling.stride + k] * y[m];
        }
        d[k] = value;
    }
    group.meet();
}

// Of a receiver: messages of a path. A = 2 l2 + 1 components in, B = 2 l3 + 1 out.
template <typename T, int L1, int A, int B>
struct TensorValues {
    static constexpr bool kWarp = true;
    PathInputs<T> p;
    Edges edges;
    T *out;  // first message of the path of the first receiver

    int64_t memory_bytes() const { return A * B * sizeof(T); }

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t i, const Group &group) const {
        T *d = static_cast<T *>(group.memory);
        for (int64_t round = 0; round < rounds<Group>(p.n_channels); ++round) {
            const int64_t c = round * Group::kWidth + group.index();
            T sum[B] = {};
            for (int64_t e = edges.start[i]; e < edges.start[i + 1]; ++e) {
                rotate<L1, A, B>(p, e, group, d);
                if (c < p.n_channels) {
                    add_edge(e, c, d, sum);
                }
            }
            EQUICALC_UNROLL
            for (int m = 0; m < B; ++m) {
                if (c < p.n_channels) {
                    out[i * p.width_out + m * p.out_component + c] = sum[m];
                }
            }
        }
    }

    EQUICALC_BOTH void add_edge(int64_t e, int64_t c, const T *d, T *sum) const {
        const T radial = p.spline(p.rows_of(e, c), p.weights + 4 * e);
        const T *x = p.x + edges.senders[e] * p.width_in + c;
        EQUICALC_UNROLL
        for (int m2 = 0; m2 < A; ++m2) {
            const T value = radial * x[m2 * p.n_channels];
            if constexpr (L1 == 0) {  // D is one number times the identity
                sum[m2] += d[0] * value;
            } else {
                EQUICALC_UNROLL
                for (int m3 = 0; m3 < B; ++m3) {
                    sum[m3] += value * d[m2 * B + m3];
                }
            }
        }
    }
};

// Of a sender: what a path adds to dL/dx, and to dL/dr and dL/dY of its edges.
template <typename T, int L1, int A, int B>
struct TensorBackward {
    static constexpr bool kWarp = true;
    static constexpr int C = 2 * L1 + 1;
    PathInputs<T> p;
    kernels::SenderRows rows;
    const T *grad;  // of the first message of the path of the first receiver
    T *grad_x;      // of the first feature of the block of the first sender
    T *grad_distance, *grad_harmonics;

    int64_t memory_bytes() const { return A * B * sizeof(T); }

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t j, const Group &group) const {
        T *d = static_cast<T *>(group.memory);
        for (int64_t round = 0; round < rounds<Group>(p.n_channels); ++round) {
            const int64_t c = round * Group::kWidth + group.index();
            const bool here = c < p.n_channels;
            T x[A], sum[A] = {};
            EQUICALC_UNROLL
            for (int m = 0; m < A; ++m) {
                x[m] = here ? p.x[j * p.width_in + m * p.n_channels + c] : T(0);
            }
            for (int64_t n = rows.start[j]; n < rows.start[j + 1]; ++n) {
                const int64_t e = rows.edges[n];
                rotate<L1, A, B>(p, e, group, d);
                T by_distance = 0, by_harmonics[C] = {};
                if (here) {
                    add_edge(e, c, d, x, sum, by_distance, by_harmonics);
                }
                store(group, e, by_distance, by_harmonics);
            }
            EQUICALC_UNROLL
            for (int m = 0; m < A; ++m) {
                if (here) {
                    grad_x[j * p.width_in + m * p.n_channels + c] += sum[m];
                }
            }
        }
    }

    EQUICALC_BOTH void add_edge(int64_t e, int64_t c, const T *d, const T *x, T *sum,
                                T &by_distance, T *by_harmonics) const {
        const T *table = p.rows_of(e, c);
        const T radial = p.spline(table, p.weights + 4 * e);
        const T slope = p.spline(table, p.slopes + 4 * e);
        T g[B];
        EQUICALC_UNROLL
        for (int m = 0; m < B; ++m) {
            g[m] = grad[rows.receivers[e] * p.width_out + m * p.out_component + c];
        }
        EQUICALC_UNROLL
        for (int m2 = 0; m2 < A; ++m2) {
            T q = 0;
            EQUICALC_UNROLL
            for (int m3 = 0; m3 < B; ++m3) {
                q += d[m2 * B + m3] * g[m3];
                const T product = radial * x[m2] * g[m3];
                EQUICALC_UNROLL
                for (int m1 = 0; m1 < C; ++m1) {
                    if (kernels::couples(L1, m1, A / 2, m2, B / 2, m3)) {
                        by_harmonics[m1] +=
                            p.coupling.values[m1 * p.coupling.stride + m2 * B + m3] * product;
                    }
                }
            }
            sum[m2] += radial * q;
            by_distance += slope * q * x[m2];
        }
    }

    template <typename Group>
    EQUICALC_BOTH void store(const Group &group, int64_t e, T by_distance,
                             const T *by_harmonics) const {
        const T total = group.sum(by_distance);
        if (group.index() == 0) {
            grad_distance[e] += total;
        }
        EQUICALC_UNROLL
        for (int m = 0; m < C; ++m) {
            const T by_harmonic = group.sum(by_harmonics[m]);
            if (group.index() == 0) {
                grad_harmonics[e * p.n_harmonics + L1 * L1 + m] += by_harmonic;
            }
        }
    }
};

// Calls body(l1, l2, l3) with all degrees that couple as constants.
template <typename Body>
void for_triples(const Body &body) {
    [&]<int... k>(std::integer_sequence<int, k...>) {
        const auto one = [&]<int index>(std::integral_constant<int, index>) {
            constexpr int l1 = index / 16, l2 = index / 4 % 4, l3 = index % 4;
            if constexpr (l3 <= l1 + l2 && l2 <= l1 + l3 && l1 <= l2 + l3) {
                body(std::integral_constant<int, l1>{}, std::integral_constant<int, l2>{},
                     std::integral_constant<int, l3>{});
            }
        };
        (one(std::integral_constant<int, k>{}), ...);
    }(std::make_integer_sequence<int, 64>{});
}

template <typename Registry, typename T>
void add_tensor_convolutions() {
    Registry::template add<EdgeSplines<T>>();
    for_triples([](auto l1, auto l2, auto l3) {
        Registry::template add<TensorValues<T, l1(), 2 * l2() + 1, 2 * l3() + 1>>();
        Registry::template add<TensorBackward<T, l1(), 2 * l2() + 1, 2 * l3() + 1>>();
    });
}

}  // namespace equicalc::groups
