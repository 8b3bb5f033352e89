// equicalc::radial_moments for groups of lanes; what it computes is in moment_kernels.h.
#pragma once

#include "operators/moment_kernels.h"
#include "cuda/convolution.h"
#include "cuda/lanes.h"
#include "cuda/shapes.h"

namespace equicalc::groups {

// value[l] += (2 l + 1)^(-1/2) sum over m of Y_lm x_lm, of one channel.
template <int L, typename T>
EQUICALC_BOTH void project(const T *harmonics, const T *x, int64_t n_channels, T *value) {
    EQUICALC_UNROLL
    for (int l = 0; l < L; ++l) {
        T sum = 0;
        EQUICALC_UNROLL
        for (int m = l * l; m < (l + 1) * (l + 1); ++m) {
            sum += harmonics[m] * x[m * n_channels];
        }
        value[l] += norm_of<T>(l) * sum;
    }
}

// value[l] = (2 l + 1)^(-1/2) sum over b of B_b grad[b, l], of one channel.
template <int L, typename T>
EQUICALC_BOTH void contract_radial(const T *radial, int64_t n_radial, const T *grad,
                                   int64_t n_channels, T *value) {
    EQUICALC_UNROLL
    for (int l = 0; l < L; ++l) {
        value[l] = 0;
    }
    for (int64_t b = 0; b < n_radial; ++b) {
        EQUICALC_UNROLL
        for (int l = 0; l < L; ++l) {
            value[l] += radial[b] * grad[(b * L + l) * n_channels];
        }
    }
    EQUICALC_UNROLL
    for (int l = 0; l < L; ++l) {
        value[l] *= norm_of<T>(l);
    }
}

// Of a receiver: A[i, b, l, c].
template <typename T, int L, int B>
struct MomentValues {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::Moments<T> p;
    Edges edges;
    T *moments;

    static EQUICALC_BOTH void add_outer(const T *radial, int64_t n_radial, const T *value, T *sum) {
        EQUICALC_UNROLL_RADIAL
        for (int b = 0; b < B; ++b) {
            const T factor = b < n_radial ? radial[b] : T(0);
            EQUICALC_UNROLL
            for (int l = 0; l < L; ++l) {
                sum[b * L + l] += factor * value[l];
            }
        }
    }

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t i, const Group &group) const {
        const int64_t first = edges.start[i], last = edges.start[i + 1], n = p.n_radial;
        for (int64_t c = group.index(); c < p.n_channels; c += Group::kWidth) {
            T sum[B * L] = {};
            for (int64_t e = first; e < last; ++e) {
                const int64_t at = edges.senders[e] * M * p.n_channels + c;
                T value[L] = {};
                project<L>(p.at.harmonics + e * M, p.at.x + at, p.n_channels, value);
                if (p.has_tangents) {
                    T change[L] = {};
                    project<L>(p.along.harmonics + e * M, p.at.x + at, p.n_channels, change);
                    project<L>(p.at.harmonics + e * M, p.along.x + at, p.n_channels, change);
                    add_outer(p.at.radial + e * n, n, change, sum);
                    add_outer(p.along.radial + e * n, n, value, sum);
                } else {
                    add_outer(p.at.radial + e * n, n, value, sum);
                }
            }
            EQUICALC_UNROLL_RADIAL
            for (int b = 0; b < B; ++b) {
                EQUICALC_UNROLL
                for (int l = 0; l < L; ++l) {
                    if (b < n) {
                        moments[((i * n + b) * L + l) * p.n_channels + c] = sum[b * L + l];
                    }
                }
            }
        }
    }
};

// Of an edge: dL/dB and, unless grad_harmonics is null, dL/dY.
template <typename T, int L, int B>
struct MomentEdges {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::Moments<T> p;
    Edges edges;
    const T *grad;
    T *grad_radial, *grad_harmonics;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &group) const {
        T dy[M] = {}, db[B] = {};
        for (int64_t c = group.index(); c < p.n_channels; c += Group::kWidth) {
            add_channel(e, c, db, dy);
        }
        store_sums<B>(group, db, p.n_radial, grad_radial + e * p.n_radial);
        if (grad_harmonics != nullptr) {
            store_sums<M>(group, dy, M, grad_harmonics + e * M);
        }
    }

    EQUICALC_BOTH void add_channel(int64_t e, int64_t c, T *db, T *dy) const {
        const int64_t n = p.n_radial, channels = p.n_channels;
        const int64_t at = edges.senders[e] * M * channels + c;
        const T *g = grad + edges.receivers[e] * n * L * channels + c;
        const T *y = p.at.harmonics + e * M;
        T value[L] = {};
        if (p.has_tangents) {
            project<L>(p.along.harmonics + e * M, p.at.x + at, channels, value);
            project<L>(y, p.along.x + at, channels, value);
        } else {
            project<L>(y, p.at.x + at, channels, value);
        }
        EQUICALC_UNROLL_RADIAL
        for (int b = 0; b < B; ++b) {
            EQUICALC_UNROLL
            for (int l = 0; l < L; ++l) {
                db[b] += b < n ? g[(b * L + l) * channels] * value[l] : T(0);
            }
        }
        if (grad_harmonics == nullptr) {
            return;
        }
        T q[L];
        contract_radial<L>(p.at.radial + e * n, n, g, channels, q);
        add_harmonics(q, (p.has_tangents ? p.along.x : p.at.x) + at, dy);
        if (p.has_tangents) {
            contract_radial<L>(p.along.radial + e * n, n, g, channels, q);
            add_harmonics(q, p.at.x + at, dy);
        }
    }

    EQUICALC_BOTH void add_harmonics(const T *q, const T *x, T *dy) const {
        EQUICALC_UNROLL
        for (int l = 0; l < L; ++l) {
            EQUICALC_UNROLL
            for (int m = l * l; m < (l + 1) * (l + 1); ++m) {
                dy[m] += q[l] * x[m * p.n_channels];
            }
        }
    }
};

// Of a sender: dL/dx[j, m, c].
template <typename T, int L>
struct MomentSenders {
    static constexpr bool kWarp = true;
    static constexpr int M = L * L;
    kernels::Moments<T> p;
    kernels::SenderRows rows;
    const T *grad;
    T *grad_x;

    static EQUICALC_BOTH void add(const T *harmonics, const T *q, T *sum) {
        EQUICALC_UNROLL
        for (int l = 0; l < L; ++l) {
            EQUICALC_UNROLL
            for (int m = l * l; m < (l + 1) * (l + 1); ++m) {
                sum[m] += harmonics[m] * q[l];
            }
        }
    }

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t j, const Group &group) const {
        const int64_t first = rows.start[j], last = rows.start[j + 1], n = p.n_radial;
        for (int64_t c = group.index(); c < p.n_channels; c += Group::kWidth) {
            T sum[M] = {}, q[L];
            for (int64_t k = first; k < last; ++k) {
                const int64_t e = rows.edges[k];
                const T *g = grad + rows.receivers[e] * n * L * p.n_channels + c;
                contract_radial<L>(p.at.radial + e * n, n, g, p.n_channels, q);
                add((p.has_tangents ? p.along.harmonics : p.at.harmonics) + e * M, q, sum);
                if (p.has_tangents) {
                    contract_radial<L>(p.along.radial + e * n, n, g, p.n_channels, q);
                    add(p.at.harmonics + e * M, q, sum);
                }
            }
            EQUICALC_UNROLL
            for (int m = 0; m < M; ++m) {
                grad_x[(j * M + m) * p.n_channels + c] = sum[m];
            }
        }
    }
};

template <typename Registry>
void add_moments() {
    for_shapes([]<typename T, int L, int B>(Shape<T, L, B>) {
        Registry::template add<MomentValues<T, L, B>>();
        Registry::template add<MomentEdges<T, L, B>>();
    });
    for_degrees(
        []<typename T, int L>(Degrees<T, L>) { Registry::template add<MomentSenders<T, L>>(); });
}

}  // namespace equicalc::groups
