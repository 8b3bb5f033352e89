#include "vectors/targets.h"
#include "operators/tensor_kernels.h"
#include "operators/tensor_vectors.h"

namespace equicalc::kernels {
namespace {

using simd::unroll;

// One part of channels of all receivers: kA components m2 in, kB components m3 out.
template <typename Target, typename T, int kA, int kB, bool kRotated>
EQUICALC_INLINE void forward_part(const EdgeChunk<T> &c, const T *table, const T *features, T *out,
                                  const TensorPath<T> &p, int64_t n_valid) {
    using V = Vectors<Target, T>;
    for (int64_t i = 0; i < c.n_atoms; ++i) {
        typename V::Row sums[kB] = {};
        for (int64_t e = c.start[i]; e < c.start[i + 1]; ++e) {
            const T *x = features + c.other[e] * (kA * kBlock);
            const T *d = c.rotations + e * (kRotated ? kA * kB : 1);
            auto radial = V::spline(table + c.row[e] * kBlock, c.weights + 4 * e);
            if constexpr (!kRotated) {
                radial = V::scaled(radial, d[0]);
                unroll<kB>([&](auto m) EQUICALC_LAMBDA {
                    V::add_product(sums[m], radial, V::load(x + m * kBlock));
                });
            } else if constexpr (kA <= kB) {
                unroll<kA>([&](auto m2) EQUICALC_LAMBDA {
                    const auto value = V::product(radial, V::load(x + m2 * kBlock));
                    unroll<kB>([&](auto m3) EQUICALC_LAMBDA {
                        V::add_scaled(sums[m3], value, d[m2 * kB + m3]);
                    });
                });
            } else {
                typename V::Row turned[kB] = {};
                unroll<kA>([&](auto m2) EQUICALC_LAMBDA {
                    const auto value = V::load(x + m2 * kBlock);
                    unroll<kB>([&](auto m3) EQUICALC_LAMBDA {
                        V::add_scaled(turned[m3], value, d[m2 * kB + m3]);
                    });
                });
                unroll<kB>([&](auto m3)
                               EQUICALC_LAMBDA { V::add_product(sums[m3], radial, turned[m3]); });
            }
        }
        T *target = out + (c.first_atom + i) * p.out_atom;
        unroll<kB>([&](auto m) EQUICALC_LAMBDA {
            V::store(target + m * p.out_component, sums[m], n_valid);
        });
    }
}

// One function for each shape and target: compilers take long over functions with all of them.
template <int kA, int kB, bool kRotated>
struct Forward {
    template <typename Target, typename T>
    static EQUICALC_INLINE void run(const TensorPath<T> &p, const EdgeChunk<T> &c) {
        for (int64_t first = 0; first < p.n_channels; first += Target::template kPart<T>) {
            const int64_t block = first / kBlock, lane = first % kBlock;
            forward_part<Target, T, kA, kB, kRotated>(
                c, p.table.data + block * p.table.block + lane, p.x.data + block * p.x.block + lane,
                p.out + first, p, p.n_channels - first);
        }
    }
};

// Y of one edge times C, one vector of entries after the other. What the last vector of an edge
// writes too much is written again by the next edge or by the vectors before it.
struct Rotations {
    template <typename Target, typename T>
    static EQUICALC_INLINE void run(const TensorCoupling<T> &coupling, const EdgeChunk<T> &c) {
        unroll<4>([&](auto l1) EQUICALC_LAMBDA {
            if (coupling.l1 == l1) {
                vectors<Target, T, l1>(coupling, c);
            }
        });
    }

    template <typename Target, typename T, int kL1>
    static EQUICALC_INLINE void vectors(const TensorCoupling<T> &coupling, const EdgeChunk<T> &c) {
        using Lane = typename Target::template Vector<T>;
        constexpr int kComponents = 2 * kL1 + 1;
        const int64_t n_edges = c.start[c.n_atoms];
        int64_t k = (coupling.n_entries - 1) / Lane::lanes * Lane::lanes;
        for (; k >= 0; k -= Lane::lanes) {
            typename Lane::type row[kComponents];
            unroll<kComponents>([&](auto m) EQUICALC_LAMBDA {
                row[m] = simd::load<Lane>(coupling.values + m * coupling.stride + k);
            });
            for (int64_t e = 0; e < n_edges; ++e) {
                const T *y = c.harmonics + e * c.n_harmonics + kL1 * kL1;
                typename Lane::type value = y[0] * row[0];
                unroll<kComponents - 1>([&](auto m)
                                            EQUICALC_LAMBDA { value += y[m + 1] * row[m + 1]; });
                simd::store<Lane>(c.rotations + e * coupling.n_entries + k, value);
            }
        }
    }
};

}  // namespace

#define EQUICALC_INSTANTIATE(T)                                                       \
    void tensor_forward(const TensorCoupling<T> &coupling, const TensorPath<T> &p,    \
                        const EdgeChunk<T> &c) {                                      \
        for_degrees(coupling, [&](auto l1, auto l2, auto l3) {                        \
            simd::run<Forward<2 * l2 + 1, 2 * l3 + 1, l1 != 0>>(p, c);                \
        });                                                                           \
    }                                                                                 \
    void tensor_rotations(const TensorCoupling<T> &coupling, const EdgeChunk<T> &c) { \
        simd::run<Rotations>(coupling, c);                                            \
    }

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::kernels
