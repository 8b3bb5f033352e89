#include "line_transform.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "waves.h"

namespace equicalc {
namespace {

#define EQUICALC_INSIDE inline __attribute__((always_inline))

// Real and imaginary parts of numbers side by side.
template <class Real>
struct Parts {
    Real *re, *im;
    Parts at(std::ptrdiff_t k) const { return {re + k, im + k}; }
};

// ---- stages ------------------------------------------------------------------------------------
//
// A stage of length n = radix * m takes, for every p < m, the numbers a_k = x[p + m k], finds their
// transform b_j, of `radix` numbers, and writes b_j exp(-2 pi i p j / n) to y[radix p + j]. Every
// number stands for `width` of them side by side. `f` are the factors of this p.

template <class Real>
EQUICALC_INSIDE void radix2(const Parts<Real> &x, std::ptrdiff_t m, const Parts<Real> &y,
                            std::ptrdiff_t width, const Real *f) {
    const Parts<Real> x0 = x, x1 = x.at(m * width), y0 = y, y1 = y.at(width);
#pragma omp simd
    for (std::ptrdiff_t q = 0; q < width; ++q) {
        const Real re = x0.re[q] - x1.re[q], im = x0.im[q] - x1.im[q];
        y0.re[q] = x0.re[q] + x1.re[q];
        y0.im[q] = x0.im[q] + x1.im[q];
        y1.re[q] = f[0] * re - f[1] * im;
        y1.im[q] = f[0] * im + f[1] * re;
    }
}

template <class Real>
EQUICALC_INSIDE void radix3(const Parts<Real> &x, std::ptrdiff_t m, const Parts<Real> &y,
                            std::ptrdiff_t width, const Real *f) {
    const Real sine = static_cast<Real>(0.86602540378443864676);  // of 2 pi / 3
    const Parts<Real> x0 = x, x1 = x.at(m * width), x2 = x.at(2 * m * width);
    const Parts<Real> y0 = y, y1 = y.at(width), y2 = y.at(2 * width);
#pragma omp simd
    for (std::ptrdiff_t q = 0; q < width; ++q) {
        const Real sum_re = x1.re[q] + x2.re[q], sum_im = x1.im[q] + x2.im[q];
        const Real v_re = sine * (x1.re[q] - x2.re[q]), v_im = sine * (x1.im[q] - x2.im[q]);
        const Real u_re = x0.re[q] - Real(0.5) * sum_re, u_im = x0.im[q] - Real(0.5) * sum_im;
        const Real re1 = u_re + v_im, im1 = u_im - v_re, re2 = u_re - v_im, im2 = u_im + v_re;
        y0.re[q] = x0.re[q] + sum_re;
        y0.im[q] = x0.im[q] + sum_im;
        y1.re[q] = f[0] * re1 - f[1] * im1;
        y1.im[q] = f[0] * im1 + f[1] * re1;
        y2.re[q] = f[2] * re2 - f[3] * im2;
        y2.im[q] = f[2] * im2 + f[3] * re2;
    }
}

template <class Real>
EQUICALC_INSIDE void radix4(const Parts<Real> &x, std::ptrdiff_t m, const Parts<Real> &y,
                            std::ptrdiff_t width, const Real *f) {
    const Parts<Real> x0 = x, x1 = x.at(m * width), x2 = x.at(2 * m * width),
                      x3 = x.at(3 * m * width);
    const Parts<Real> y0 = y, y1 = y.at(width), y2 = y.at(2 * width), y3 = y.at(3 * width);
#pragma omp simd
    for (std::ptrdiff_t q = 0; q < width; ++q) {
        const Real s_re = x0.re[q] + x2.re[q], s_im = x0.im[q] + x2.im[q];
        const Real d_re = x0.re[q] - x2.re[q], d_im = x0.im[q] - x2.im[q];
        const Real t_re = x1.re[q] + x3.re[q], t_im = x1.im[q] + x3.im[q];
        const Real e_re = x1.re[q] - x3.re[q], e_im = x1.im[q] - x3.im[q];
        const Real re1 = d_re + e_im, im1 = d_im - e_re, re3 = d_re - e_im, im3 = d_im + e_re;
        const Real re2 = s_re - t_re, im2 = s_im - t_im;
        y0.re[q] = s_re + t_re;
        y0.im[q] = s_im + t_im;
        y1.re[q] = f[0] * re1 - f[1] * im1;
        y1.im[q] = f[0] * im1 + f[1] * re1;
        y2.re[q] = f[2] * re2 - f[3] * im2;
        y2.im[q] = f[2] * im2 + f[3] * re2;
        y3.re[q] = f[4] * re3 - f[5] * im3;
        y3.im[q] = f[4] * im3 + f[5] * re3;
    }
}

template <class Real>
EQUICALC_INSIDE void radix5(const Parts<Real> &x, std::ptrdiff_t m, const Parts<Real> &y,
                            std::ptrdiff_t width, const Real *f) {
    const Real c1 = static_cast<Real>(0.30901699437494742410);  // of 2 pi / 5
    const Real s1 = static_cast<Real>(0.95105651629515357212);
    const Real c2 = static_cast<Real>(-0.80901699437494742410);  // of 4 pi / 5
    const Real s2 = static_cast<Real>(0.58778525229247312917);
    const Parts<Real> x0 = x, x1 = x.at(m * width), x2 = x.at(2 * m * width),
                      x3 = x.at(3 * m * width), x4 = x.at(4 * m * width);
    const Parts<Real> y0 = y, y1 = y.at(width), y2 = y.at(2 * width), y3 = y.at(3 * width),
                      y4 = y.at(4 * width);
#pragma omp simd
    for (std::ptrdiff_t q = 0; q < width; ++q) {
        const Real t1_re = x1.re[q] + x4.re[q], t1_im = x1.im[q] + x4.im[q];
        const Real t2_re = x2.re[q] + x3.re[q], t2_im = x2.im[q] + x3.im[q];
        const Real d1_re = x1.re[q] - x4.re[q], d1_im = x1.im[q] - x4.im[q];
        const Real d2_re = x2.re[q] - x3.re[q], d2_im = x2.im[q] - x3.im[q];
        const Real u1_re = x0.re[q] + c1 * t1_re + c2 * t2_re;
        const Real u1_im = x0.im[q] + c1 * t1_im + c2 * t2_im;
        const Real u2_re = x0.re[q] + c2 * t1_re + c1 * t2_re;
        const Real u2_im = x0.im[q] + c2 * t1_im + c1 * t2_im;
        const Real v1_re = s1 * d1_re + s2 * d2_re, v1_im = s1 * d1_im + s2 * d2_im;
        const Real v2_re = s2 * d1_re - s1 * d2_re, v2_im = s2 * d1_im - s1 * d2_im;
        const Real re1 = u1_re + v1_im, im1 = u1_im - v1_re, re4 = u1_re - v1_im,
                   im4 = u1_im + v1_re;
        const Real re2 = u2_re + v2_im, im2 = u2_im - v2_re, re3 = u2_re - v2_im,
                   im3 = u2_im + v2_re;
        y0.re[q] = x0.re[q] + t1_re + t2_re;
        y0.im[q] = x0.im[q] + t1_im + t2_im;
        y1.re[q] = f[0] * re1 - f[1] * im1;
        y1.im[q] = f[0] * im1 + f[1] * re1;
        y2.re[q] = f[2] * re2 - f[3] * im2;
        y2.im[q] = f[2] * im2 + f[3] * re2;
        y3.re[q] = f[4] * re3 - f[5] * im3;
        y3.im[q] = f[4] * im3 + f[5] * re3;
        y4.re[q] = f[6] * re4 - f[7] * im4;
        y4.im[q] = f[6] * im4 + f[7] * re4;
    }
}

// Of any radix; `roots`: cosines and sines of 2 pi j / radix.
template <class Real>
EQUICALC_INSIDE void any_radix(const Parts<Real> &x, std::ptrdiff_t m, const Parts<Real> &y,
                               std::ptrdiff_t width, const Real *f, int radix, const Real *roots) {
    for (int j = 0; j < radix; ++j) {
        const Parts<Real> out = y.at(j * width);
        std::copy(x.re, x.re + width, out.re);
        std::copy(x.im, x.im + width, out.im);
        for (int k = 1; k < radix; ++k) {
            const Parts<Real> in = x.at(k * m * width);
            const Real *root = roots + 2 * (static_cast<std::int64_t>(j) * k % radix);
#pragma omp simd
            for (std::ptrdiff_t q = 0; q < width; ++q) {
                out.re[q] += root[0] * in.re[q] + root[1] * in.im[q];
                out.im[q] += root[0] * in.im[q] - root[1] * in.re[q];
            }
        }
        const Real re = j == 0 ? Real(1) : f[2 * j - 2], im = j == 0 ? Real(0) : f[2 * j - 1];
#pragma omp simd
        for (std::ptrdiff_t q = 0; q < width; ++q) {
            const Real old = out.re[q];
            out.re[q] = re * old - im * out.im[q];
            out.im[q] = re * out.im[q] + im * old;
        }
    }
}

template <class Real>
struct StageView {
    int radix, rest, width;  // numbers side by side
    const Real *factors, *roots;
};

template <class Real>
EQUICALC_INSIDE void any_stage(const StageView<Real> &stage, const Parts<Real> &from,
                               const Parts<Real> &to) {
    const std::ptrdiff_t m = stage.rest, width = stage.width;
    const int radix = stage.radix;
    for (std::ptrdiff_t p = 0; p < m; ++p) {
        const Parts<Real> x = from.at(p * width), y = to.at(radix * p * width);
        const Real *f = stage.factors + p * 2 * (radix - 1);
        switch (radix) {
            case 2:
                radix2(x, m, y, width, f);
                break;
            case 3:
                radix3(x, m, y, width, f);
                break;
            case 4:
                radix4(x, m, y, width, f);
                break;
            case 5:
                radix5(x, m, y, width, f);
                break;
            default:
                any_radix(x, m, y, width, f, radix, stage.roots);
        }
    }
}

EQUICALC_VECTOR
void run_stage(const StageView<float> &stage, const Parts<float> &from, const Parts<float> &to) {
    any_stage(stage, from, to);
}

EQUICALC_VECTOR
void run_stage(const StageView<double> &stage, const Parts<double> &from, const Parts<double> &to) {
    any_stage(stage, from, to);
}

int radix_of(int n) {
    for (const int radix : {4, 2, 3, 5}) {
        if (n % radix == 0) {
            return radix;
        }
    }
    int radix = 7;
    while (n % radix != 0) {
        radix += 2;
    }
    return radix;
}

}  // namespace

template <class Real>
LineTransform<Real>::LineTransform(int n) : n_(n) {
    for (int length = n, width = 1; length > 1;) {
        Stage stage{radix_of(length), 0, width, {}, {}};
        stage.rest = length / stage.radix;
        const auto add = [](std::vector<Real> &to, double angle, double sign) {
            to.push_back(static_cast<Real>(std::cos(angle)));
            to.push_back(static_cast<Real>(sign * std::sin(angle)));
        };
        for (std::int64_t p = 0; p < stage.rest; ++p) {
            for (int j = 1; j < stage.radix; ++j) {
                add(stage.factors, 2.0 * kPi * static_cast<double>(p * j) / length, -1.0);
            }
        }
        for (int j = 0; j < stage.radix && stage.radix > 5; ++j) {
            add(stage.roots, 2.0 * kPi * j / stage.radix, 1.0);
        }
        length = stage.rest;
        width *= stage.radix;
        stages_.push_back(std::move(stage));
    }
}

template <class Real>
Real *LineTransform<Real>::run(Real *values, Real *other, bool backward) const {
    const std::ptrdiff_t half = static_cast<std::ptrdiff_t>(n_) * kLanes;
    // The other sign is that of real and imaginary parts in each other's place.
    const auto parts = [half, backward](Real *buffer) {
        return backward ? Parts<Real>{buffer + half, buffer} : Parts<Real>{buffer, buffer + half};
    };
    for (const Stage &stage : stages_) {
        run_stage(StageView<Real>{stage.radix, stage.rest, stage.width * kLanes,
                                  stage.factors.data(), stage.roots.data()},
                  parts(values), parts(other));
        std::swap(values, other);
    }
    return values;
}

template class LineTransform<float>;
template class LineTransform<double>;

}  // namespace equicalc
