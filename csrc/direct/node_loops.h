// Loops over the channels of atoms: matrix products, couplings of features, activation. Included by
// the files that compile the kernels, one for each kind of processor.
#pragma once

#include "direct/kernels.h"
#include "vectors/lanes.h"

namespace equicalc::direct::EQUICALC_ISA {

// Rows of a matrix product held in registers: twelve accumulators.
template <typename T>
inline constexpr int kRows = 12 / Block<T>::kCount > 0 ? 12 / Block<T>::kCount : 1;

template <typename T>
EQUICALC_INLINE void multiply_rows(const T *panel, int64_t k, const T *const *in, T *const *out,
                                   bool add) {
    constexpr int kCount = kRows<T>;
    Block<T> sums[kCount];
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
        sums[r] = add ? Block<T>::load(out[r]) : Block<T>::zero();
    }
    for (int64_t i = 0; i < k; ++i) {
        const auto weights = Block<T>::load(panel + i * kBlock<T>);
#pragma GCC unroll 16
        for (int r = 0; r < kCount; ++r) {
            sums[r].add(in[r][i], weights);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
        sums[r].store(out[r]);
    }
}

template <typename T>
void multiply(const Matrix<T> &matrix, const T *const *in, T *const *out, int64_t n_rows,
              bool add) {
    constexpr int kCount = kRows<T>;
    for (int64_t column = 0; column < matrix.n; column += kBlock<T>) {
        const T *panel = matrix.panels + column * matrix.k;
        for (int64_t first = 0; first < n_rows; first += kCount) {
            // the last row is repeated: the same numbers are stored twice
            const T *from[kCount];
            T *to[kCount];
#pragma GCC unroll 16
            for (int r = 0; r < kCount; ++r) {
                const int64_t row = first + r < n_rows ? first + r : n_rows - 1;
                from[r] = in[row];
                to[r] = out[row] + column;
            }
            multiply_rows<T>(panel, matrix.k, from, to, add);
        }
    }
}

// N blocks of channels of one row's terms, added to sums.
template <typename T, int N>
EQUICALC_INLINE void add_terms(const Terms<T> &terms, int64_t row, Features<const T> left,
                               Features<const T> right, int64_t c, Block<T> *sums) {
    for (int32_t t = terms.start[row]; t < terms.start[row + 1]; ++t) {
        const T coefficient = terms.coefficient[t];
        const T *a = left.data + terms.left[t] * left.stride + c;
        const T *b = right.data + terms.right[t] * right.stride + c;
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            sums[n].add(coefficient,
                        Block<T>::load(a + n * kBlock<T>) * Block<T>::load(b + n * kBlock<T>));
        }
    }
}

template <typename T, int N>
EQUICALC_INLINE void couple_blocks(const Terms<T> &terms, int64_t channels, const T *weight,
                                   Features<const T> left, Features<const T> right, Features<T> out,
                                   bool add, int64_t c) {
    for (int64_t row = 0; row < terms.n_rows;) {
        const int32_t target = terms.target[row];
        T *to = out.data + target * out.stride + c;
        Block<T> total[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            total[n] = add ? Block<T>::load(to + n * kBlock<T>) : Block<T>::zero();
        }
        for (; row < terms.n_rows && terms.target[row] == target; ++row) {
            if (!weight) {
                add_terms<T, N>(terms, row, left, right, c, total);
                continue;
            }
            Block<T> sums[N];
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) {
                sums[n] = Block<T>::zero();
            }
            add_terms<T, N>(terms, row, left, right, c, sums);
            const T *w = weight + terms.path[row] * channels + c;
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) {
                total[n].add(sums[n], Block<T>::load(w + n * kBlock<T>));
            }
        }
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            total[n].store(to + n * kBlock<T>);
        }
    }
}

template <typename T>
void couple(const Terms<T> &terms, int64_t channels, const T *weight, Features<const T> left,
            Features<const T> right, Features<T> out, bool add) {
    int64_t c = 0;
    for (; c + 4 * kBlock<T> <= channels; c += 4 * kBlock<T>) {
        couple_blocks<T, 4>(terms, channels, weight, left, right, out, add, c);
    }
    for (; c < channels; c += kBlock<T>) {
        couple_blocks<T, 1>(terms, channels, weight, left, right, out, add, c);
    }
}

template <typename T>
void weigh_rows(const Terms<T> &terms, int64_t channels, const T *weight, Features<const T> grad,
                T *rows) {
    for (int64_t row = 0; row < terms.n_rows; ++row) {
        const T *g = grad.data + terms.target[row] * grad.stride;
        const T *w = weight + terms.path[row] * channels;
        for (int64_t c = 0; c < channels; c += kBlock<T>) {
            (Block<T>::load(g + c) * Block<T>::load(w + c)).store(rows + row * channels + c);
        }
    }
}

// 2^n by its exponent, for whole n held in floating point.
EQUICALC_INLINE Register<float>::V power_of_two(const Register<float>::V &n) {
    typedef int32_t Integers
        __attribute__((vector_size(EQUICALC_LANE_BYTES), aligned(alignof(float)), may_alias));
    const Integers bits = (__builtin_convertvector(n, Integers) + 127) << 23;
    Register<float>::V result;
    __builtin_memcpy(&result, &bits, sizeof(result));
    return result;
}

EQUICALC_INLINE Register<double>::V power_of_two(const Register<double>::V &n) {
    typedef int64_t Integers
        __attribute__((vector_size(EQUICALC_LANE_BYTES), aligned(alignof(double)), may_alias));
    // adding 1.5 2^52 puts a whole number into the lowest bits, without a conversion
    const Register<double>::V shifted = n + 6755399441055744.0;
    Integers bits;
    __builtin_memcpy(&bits, &shifted, sizeof(bits));
    bits = (bits + 1023) << 52;
    Register<double>::V result;
    __builtin_memcpy(&result, &bits, sizeof(result));
    return result;
}

// e^x to rounding, for |x| below 80 (float) or 700 (double), elsewhere that of the limit:
// x = n ln 2 + r, the Taylor series of e^r, and n in the exponent.
template <typename T>
EQUICALC_INLINE typename Register<T>::V exponential(typename Register<T>::V x) {
    constexpr bool kSingle = sizeof(T) == 4;
    constexpr T kLimit = kSingle ? T(80) : T(700);
    constexpr T kRound = kSingle ? T(12582912) : T(6755399441055744);
    constexpr T kHigh = kSingle ? T(0.693359375) : T(6.93147180369123816490e-01);
    constexpr T kLow = kSingle ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
    typedef typename Register<T>::V V;
    x = x > kLimit ? V{} + kLimit : x;
    x = x < -kLimit ? V{} - kLimit : x;
    const V n = (x * T(1.4426950408889634) + kRound) - kRound;
    const V r = (x - n * kHigh) - n * kLow;
    V value = V{} + T(1);
    for (int k = kSingle ? 7 : 13; k > 0; --k) {
        value = T(1) + value * r * (T(1) / T(k));
    }
    return value * power_of_two(n);
}

template <typename T>
void silu(T *values, T *gains, int64_t count) {
    typedef Register<T> R;
    for (int64_t k = 0; k < count; k += R::kLanes) {
        R value = R::load(values + k), gain;
        const auto gate = T(1) / (T(1) + exponential<T>(-value.v[0]));
        value.v[0] *= gate;
        gain.v[0] = gate + value.v[0] * (T(1) - gate);
        value.store(values + k);
        gain.store(gains + k);
    }
}

template <typename T>
void scale(T *values, const T *factors, int64_t count) {
    for (int64_t k = 0; k < count; k += kBlock<T>) {
        (Block<T>::load(values + k) * Block<T>::load(factors + k)).store(values + k);
    }
}

}  // namespace equicalc::direct::EQUICALC_ISA
