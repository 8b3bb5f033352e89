#include "operators/matrix_kernels.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "vectors/targets.h"

namespace equicalc::kernels {
namespace {

// Tiles of kRows atoms times kColumns vectors of channels stay in registers over all of n_in.
template <typename T, typename Lane, int kRows, int kColumns>
EQUICALC_INLINE void tile(const ComponentProduct<T> &p, const T *matrix, int64_t atom,
                          int64_t component, int64_t column) {
    using V = typename Lane::type;
    const T *in = p.in + atom * p.in_row + component * p.n_in;
    T *out = p.out + atom * p.out_row + component * p.n_out + column;
    V sum[kRows][kColumns];
    simd::unroll<kRows>([&](auto r) EQUICALC_LAMBDA {
        simd::unroll<kColumns>([&](auto c) EQUICALC_LAMBDA {
            sum[r][c] = p.add ? simd::load<Lane>(out + r * p.out_row + c * Lane::lanes) : V{};
        });
    });
    for (int64_t k = 0; k < p.n_in; ++k) {
        V row[kColumns];
        simd::unroll<kColumns>([&](auto c) EQUICALC_LAMBDA {
            row[c] = simd::load<Lane>(matrix + (k * kColumns + c) * Lane::lanes);
        });
        simd::unroll<kRows>([&](auto r) EQUICALC_LAMBDA {
            const T factor = in[r * p.in_row + k];
            simd::unroll<kColumns>([&](auto c) EQUICALC_LAMBDA { sum[r][c] += factor * row[c]; });
        });
    }
    simd::unroll<kRows>([&](auto r) EQUICALC_LAMBDA {
        simd::unroll<kColumns>([&](auto c) EQUICALC_LAMBDA {
            simd::store<Lane>(out + r * p.out_row + c * Lane::lanes, sum[r][c]);
        });
    });
}

// All atoms and components for some columns. Their part of the matrix is copied to a place of its
// own, where it stays in the first cache: rows of a matrix are often a power of two apart.
template <typename T, typename Lane, int kRows, int kColumns>
EQUICALC_INLINE void columns(const ComponentProduct<T> &p, int64_t n_atoms, int64_t column) {
    constexpr int64_t kWidth = kColumns * Lane::lanes;
    static thread_local std::vector<T> copy;
    copy.resize(std::max<size_t>(copy.size(), p.n_in * kWidth));
    T *matrix = copy.data();
    for (int64_t k = 0; k < p.n_in; ++k) {
        std::memcpy(matrix + k * kWidth, p.matrix + k * p.n_out + column, kWidth * sizeof(T));
    }
    for (int64_t m = 0; m < p.n_components; ++m) {
        int64_t atom = 0;
        for (; atom + kRows <= n_atoms; atom += kRows) {
            tile<T, Lane, kRows, kColumns>(p, matrix, atom, m, column);
        }
        for (; atom + 3 <= n_atoms; atom += 3) {
            tile<T, Lane, 3, kColumns>(p, matrix, atom, m, column);
        }
        for (; atom < n_atoms; ++atom) {
            tile<T, Lane, 1, kColumns>(p, matrix, atom, m, column);
        }
    }
}

struct Multiply {
    template <typename Target, typename T>
    static EQUICALC_INLINE void run(const ComponentProduct<T> &p, int64_t n_atoms) {
        using Lane = typename Target::template Vector<T>;
        constexpr int kRows = Target::kRegisters > 16 ? 12 : 6;
        int64_t column = 0;
        for (; column + 2 * Lane::lanes <= p.n_out; column += 2 * Lane::lanes) {
            columns<T, Lane, kRows, 2>(p, n_atoms, column);
        }
        for (; column + Lane::lanes <= p.n_out; column += Lane::lanes) {
            columns<T, Lane, kRows, 1>(p, n_atoms, column);
        }
        for (; column < p.n_out; ++column) {
            columns<T, simd::Single<T>, kRows, 1>(p, n_atoms, column);
        }
    }
};

}  // namespace

void multiply(const ComponentProduct<float> &p, int64_t n_atoms) {
    simd::run<Multiply>(p, n_atoms);
}

void multiply(const ComponentProduct<double> &p, int64_t n_atoms) {
    simd::run<Multiply>(p, n_atoms);
}

}  // namespace equicalc::kernels
