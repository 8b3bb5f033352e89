#include "vectors/targets.h"
#include "operators/tensor_kernels.h"
#include "operators/tensor_terms.h"
#include "operators/tensor_vectors.h"

namespace equicalc::kernels {
namespace {

using simd::unroll;

struct Term {
    int m1, m2, m3;
};

struct Terms {
    int count;
    Term of[64];
};

// The coefficients that may differ from zero, of n components m3.
template <int kL1, int kL2, int kL3>
constexpr Terms terms(int first, int n) {
    Terms result{};
    for (int m1 = 0; m1 < 2 * kL1 + 1; ++m1) {
        for (int m2 = 0; m2 < 2 * kL2 + 1; ++m2) {
            for (int m3 = first; m3 < first + n; ++m3) {
                if (couples(kL1, m1, kL2, m2, kL3, m3)) {
                    result.of[result.count++] = {m1, m2, m3};
                }
            }
        }
    }
    return result;
}

// The blocks of one sender, of one edge.
template <typename T>
struct EdgeBlocks {
    const T *table, *x, *grad, *d;
    const T *weights, *slopes;
    T *grad_x, *radial, *sums;
};

template <typename Target, typename T, int kL1, int kL2, int kL3>
struct Backward {
    using V = Vectors<Target, T>;
    using Row = typename V::Row;
    using Lane = typename V::Lane;
    using Lanes = typename Lane::type;
    static constexpr int kA = 2 * kL2 + 1, kB = 2 * kL3 + 1, kC = 2 * kL1 + 1;

    static EQUICALC_INLINE void chunk(const TensorCoupling<T> &coupling, const TensorPath<T> &p,
                                      const EdgeChunk<T> &c) {
        EdgeBlocks<T> b;
        b.radial = c.radial;
        for (int64_t i = 0; i < c.n_atoms; ++i) {
            b.x = p.x.data + (c.first_atom + i) * p.x.atom;
            b.grad_x = p.grad_x.data + i * p.grad_x.atom;
            for (int64_t e = c.start[i]; e < c.start[i + 1]; ++e) {
                b.table = p.table.data + c.row[e] * kBlock;
                b.grad = p.grad.data + c.other[e] * p.grad.atom;
                b.d = c.rotations + e * (kL1 == 0 ? 1 : kA * kB);
                b.weights = c.weights + 4 * e;
                b.slopes = c.slopes + 4 * e;
                b.sums = c.sums + e * ((1 + c.n_harmonics) * Lane::lanes);
                if constexpr (kL1 == 0) {
                    scalar_edge(coupling, p, b);
                } else if constexpr (kL2 == 0) {
                    scalar_features(coupling, p, b);
                } else {
                    features_and_distance(p, b);
                    harmonics(coupling, p, b);
                }
            }
        }
    }

    // Harmonics of degree 0: D is one number.
    static EQUICALC_INLINE void scalar_edge(const TensorCoupling<T> &coupling,
                                            const TensorPath<T> &p, const EdgeBlocks<T> &b) {
        Lanes by_distance{}, by_harmonic{};
        for (int64_t first = 0; first < p.n_channels; first += V::kPart) {
            const int64_t block = first / kBlock, lane = first % kBlock;
            const T *table = b.table + block * p.table.block + lane;
            const T *x = b.x + block * p.x.block + lane;
            const T *grad = b.grad + block * p.grad.block + lane;
            T *grad_x = b.grad_x + block * p.grad_x.block + lane;
            Row radial, slope;
            V::spline(table, b.weights, b.slopes, radial, slope);
            const Row turned = V::scaled(radial, b.d[0]);
            Row overlap{};
            unroll<kA>([&](auto m) EQUICALC_LAMBDA {
                const Row g = V::load(grad + m * kBlock);
                V::add_product(overlap, g, V::load(x + m * kBlock));
                Row sum = V::load(grad_x + m * kBlock);
                V::add_product(sum, g, turned);
                V::store(grad_x + m * kBlock, sum);
            });
            V::add_inner(by_distance, overlap, slope);
            V::add_inner(by_harmonic, overlap, radial);
        }
        add(b.sums, b.d[0] * by_distance);
        add(b.sums + Lane::lanes, coupling.values[0] * by_harmonic);
    }

    // dL/dx and dL/dr: q = D g serves both. Keeps R for `harmonics`.
    static EQUICALC_INLINE void features_and_distance(const TensorPath<T> &p,
                                                      const EdgeBlocks<T> &b) {
        Lanes by_distance{};
        for (int64_t first = 0; first < p.n_channels; first += V::kPart) {
            const int64_t block = first / kBlock, lane = first % kBlock;
            const T *table = b.table + block * p.table.block + lane;
            const T *x = b.x + block * p.x.block + lane;
            const T *grad = b.grad + block * p.grad.block + lane;
            T *grad_x = b.grad_x + block * p.grad_x.block + lane;
            Row q[kA] = {};
            unroll<kB>([&](auto m3) EQUICALC_LAMBDA {
                const Row g = V::load(grad + m3 * kBlock);
                unroll<kA>([&](auto m2)
                               EQUICALC_LAMBDA { V::add_scaled(q[m2], g, b.d[m2 * kB + m3]); });
            });
            Row overlap{};
            unroll<kA>([&](auto m2) EQUICALC_LAMBDA {
                V::add_product(overlap, q[m2], V::load(x + m2 * kBlock));
            });
            Row radial, slope;
            V::spline(table, b.weights, b.slopes, radial, slope);
            V::store(b.radial + first, radial);
            unroll<kA>([&](auto m2) EQUICALC_LAMBDA {
                Row sum = V::load(grad_x + m2 * kBlock);
                V::add_product(sum, q[m2], radial);
                V::store(grad_x + m2 * kBlock, sum);
            });
            V::add_inner(by_distance, overlap, slope);
        }
        add(b.sums, by_distance);
    }

    // Scalar features: one pass over the channels for everything, P[m3] = sum of R x g[m3].
    static EQUICALC_INLINE void scalar_features(const TensorCoupling<T> &coupling,
                                                const TensorPath<T> &p, const EdgeBlocks<T> &b) {
        Lanes by_distance{}, products[kB] = {};
        for (int64_t first = 0; first < p.n_channels; first += V::kPart) {
            const int64_t block = first / kBlock, lane = first % kBlock;
            const T *grad = b.grad + block * p.grad.block + lane;
            T *grad_x = b.grad_x + block * p.grad_x.block + lane;
            Row radial, slope, q{};
            V::spline(b.table + block * p.table.block + lane, b.weights, b.slopes, radial, slope);
            const Row x = V::load(b.x + block * p.x.block + lane);
            const Row weighted = V::product(radial, x);
            unroll<kB>([&](auto m3) EQUICALC_LAMBDA {
                const Row g = V::load(grad + m3 * kBlock);
                V::add_scaled(q, g, b.d[m3]);
                V::add_inner(products[m3], g, weighted);
            });
            Row sum = V::load(grad_x);
            V::add_product(sum, q, radial);
            V::store(grad_x, sum);
            V::add_inner(by_distance, V::product(q, x), slope);
        }
        add(b.sums, by_distance);
        contract<0, kB>(coupling, products, b);
    }

    // dL/dY = C P with P[m2, m3] = sum over channels of R x[m2] g[m3], as many rows m3 of P at a
    // time as stay in registers.
    static EQUICALC_INLINE void harmonics(const TensorCoupling<T> &coupling, const TensorPath<T> &p,
                                          const EdgeBlocks<T> &b) {
        constexpr int kFit = (Target::kRegisters - 3) / kA;
        constexpr int kRows = kFit < 1 ? 1 : (kFit < kB ? kFit : kB);
        constexpr int kPasses = (kB + kRows - 1) / kRows;
        unroll<kPasses>([&](auto pass) EQUICALC_LAMBDA {
            constexpr int kFirst = pass * kRows;
            constexpr int kCount = kB - kFirst < kRows ? kB - kFirst : kRows;
            harmonics_pass<kFirst, kCount>(coupling, p, b);
        });
    }

    template <int kFirst, int kCount>
    static EQUICALC_INLINE void harmonics_pass(const TensorCoupling<T> &coupling,
                                               const TensorPath<T> &p, const EdgeBlocks<T> &b) {
        Lanes products[kA * kCount] = {};
        for (int64_t first = 0; first < p.n_channels; first += Lane::lanes) {
            const int64_t block = first / kBlock, lane = first % kBlock;
            const T *x_block = b.x + block * p.x.block + lane;
            const T *grad_block = b.grad + block * p.grad.block + lane + kFirst * kBlock;
            const Lanes radial = simd::load<Lane>(b.radial + first);
            Lanes g[kCount];
            unroll<kCount>([&](auto m3) EQUICALC_LAMBDA {
                g[m3] = radial * simd::load<Lane>(grad_block + m3 * kBlock);
            });
            unroll<kA>([&](auto m2) EQUICALC_LAMBDA {
                const Lanes x = simd::load<Lane>(x_block + m2 * kBlock);
                unroll<kCount>([&](auto m3)
                                   EQUICALC_LAMBDA { products[m2 * kCount + m3] += x * g[m3]; });
            });
        }
        contract<kFirst, kCount>(coupling, products, b);
    }

    // Adds C P to dL/dY, for kCount components m3 from kFirst.
    template <int kFirst, int kCount>
    static EQUICALC_INLINE void contract(const TensorCoupling<T> &coupling,
                                         const Lanes (&products)[kA * kCount],
                                         const EdgeBlocks<T> &b) {
        static constexpr auto kTerms = terms<kL1, kL2, kL3>(kFirst, kCount);
        Lanes sums[kC] = {};
        unroll<kTerms.count>([&](auto k) EQUICALC_LAMBDA {
            constexpr Term kTerm = kTerms.of[k];
            const T *row = coupling.values + kTerm.m1 * coupling.stride;
            sums[kTerm.m1] +=
                row[kTerm.m2 * kB + kTerm.m3] * products[kTerm.m2 * kCount + kTerm.m3 - kFirst];
        });
        unroll<kC>([&](auto m1) EQUICALC_LAMBDA {
            add(b.sums + (1 + kL1 * kL1 + m1) * Lane::lanes, sums[m1]);
        });
    }

    static EQUICALC_INLINE void add(T *target, const Lanes &value) {
        simd::store<Lane>(target, simd::load<Lane>(target) + value);
    }
};

// One function for each shape and target: compilers take long over functions with all of them.
template <int kL1, int kL2, int kL3>
struct RunBackward {
    template <typename Target, typename T>
    static EQUICALC_INLINE void run(const TensorCoupling<T> &coupling, const TensorPath<T> &p,
                                    const EdgeChunk<T> &c) {
        Backward<Target, T, kL1, kL2, kL3>::chunk(coupling, p, c);
    }
};

struct SumLanes {
    template <typename Target, typename T>
    static EQUICALC_INLINE void run(T *sums, int64_t n) {
        using Lane = typename Target::template Vector<T>;
        for (int64_t k = 0; k < n; ++k) {
            sums[k] = simd::sum<Lane, T>(simd::load<Lane>(sums + k * Lane::lanes));
        }
    }
};

}  // namespace

#define EQUICALC_INSTANTIATE(T)                                                     \
    void tensor_backward(const TensorCoupling<T> &coupling, const TensorPath<T> &p, \
                         const EdgeChunk<T> &c) {                                   \
        for_degrees(coupling, [&](auto l1, auto l2, auto l3) {                      \
            simd::run<RunBackward<l1, l2, l3>>(coupling, p, c);                     \
        });                                                                         \
    }                                                                               \
    void tensor_sum_lanes(T *sums, int64_t n) { simd::run<SumLanes>(sums, n); }

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::kernels
