#include "mesh.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

namespace equicalc {
namespace {

// Splines are stored at this many points, those beyond their order being zero: one or two vectors.
constexpr int kWidth = kMaxSplineOrder;
#define EQUICALC_INSIDE inline __attribute__((always_inline))

// Calls f.template operator()<order>() for the order known at run time.
template <class Function>
void dispatch(int order, const Function &f) {
    switch (order) {
        case 3:
            return f.template operator()<3>();
        case 4:
            return f.template operator()<4>();
        case 5:
            return f.template operator()<5>();
        case 6:
            return f.template operator()<6>();
        case 7:
            return f.template operator()<7>();
        case 8:
            return f.template operator()<8>();
        default:
            throw std::invalid_argument("the order of the spline must lie between 3 and 8; found " +
                                        std::to_string(order));
    }
}

const int *checked(const int *points, int order) {
    dispatch(order, []<int> {});
    for (int a = 0; a < 3; ++a) {
        if (points[a] < order) {
            throw std::invalid_argument("a mesh for splines of order " + std::to_string(order) +
                                        " needs as many points in each direction; found " +
                                        std::to_string(points[a]));
        }
    }
    return points;
}

CoulombOptions with_threads(CoulombOptions options) {
    options.threads = std::max(1, options.threads);
    options.atom_virials = false;
    return options;
}

// Charges of some atoms on one plane with rows of `row` points; `scale` are charge times weight
// along x.
template <class Real>
EQUICALC_INSIDE void add_to_plane(const std::size_t *atoms, std::size_t n, int cx, int order,
                                  int ny, std::size_t row, const double *charges, const int *base,
                                  const Real *weights, Real *plane) {
    for (std::size_t at = 0; at < n; ++at) {
        const std::size_t i = atoms[at];
        const Real *w = weights + 3 * kWidth * i;
        const Real qx = static_cast<Real>(charges[i]) * w[cx];
        int y = base[3 * i + 1];
        for (int cy = 0; cy < order; ++cy) {
            const Real qxy = qx * w[kWidth + cy];
            Real *target = plane + y * row + base[3 * i + 2];
#pragma omp simd
            for (int cz = 0; cz < kWidth; ++cz) {
                target[cz] += qxy * w[2 * kWidth + cz];
            }
            y = y + 1 == ny ? 0 : y + 1;
        }
    }
}

EQUICALC_VECTOR
void add_atoms(const std::size_t *atoms, std::size_t n, int cx, int order, int ny, std::size_t row,
               const double *charges, const int *base, const float *weights, float *plane) {
    add_to_plane(atoms, n, cx, order, ny, row, charges, base, weights, plane);
}

EQUICALC_VECTOR
void add_atoms(const std::size_t *atoms, std::size_t n, int cx, int order, int ny, std::size_t row,
               const double *charges, const int *base, const double *weights, double *plane) {
    add_to_plane(atoms, n, cx, order, ny, row, charges, base, weights, plane);
}

// Potential and its slopes along the three vectors at one atom: result[4].
template <class Real>
EQUICALC_INSIDE void read_mesh(const Real *mesh, const int *points, int order, const int *base,
                               const Real *w, const Real *d, double *result) {
    const int ny = points[1], nz = points[2];
    Real value[kWidth] = {}, along_x[kWidth] = {}, along_y[kWidth] = {};
    int x = base[0];
    for (int cx = 0; cx < order; ++cx) {
        int y = base[1];
        for (int cy = 0; cy < order; ++cy) {
            const Real *row = mesh + (static_cast<std::size_t>(x) * ny + y) * nz;
            const Real *local = row + base[2];
            Real wrapped[kWidth];
            if (base[2] + kWidth > nz) {
                for (int cz = 0; cz < kWidth; ++cz) {
                    wrapped[cz] = row[(base[2] + cz) % nz];
                }
                local = wrapped;
            }
            const Real both = w[cx] * w[kWidth + cy];
            const Real dx = d[cx] * w[kWidth + cy], dy = w[cx] * d[kWidth + cy];
#pragma omp simd
            for (int cz = 0; cz < kWidth; ++cz) {
                value[cz] += both * local[cz];
                along_x[cz] += dx * local[cz];
                along_y[cz] += dy * local[cz];
            }
            y = y + 1 == ny ? 0 : y + 1;
        }
        x = x + 1 == points[0] ? 0 : x + 1;
    }
    std::fill(result, result + 4, 0.0);
    for (int cz = 0; cz < kWidth; ++cz) {
        result[0] += static_cast<double>(value[cz]) * w[2 * kWidth + cz];
        result[1] += static_cast<double>(along_x[cz]) * w[2 * kWidth + cz];
        result[2] += static_cast<double>(along_y[cz]) * w[2 * kWidth + cz];
        result[3] += static_cast<double>(value[cz]) * d[2 * kWidth + cz];
    }
}

EQUICALC_VECTOR
void read_atom(const float *mesh, const int *points, int order, const int *base, const float *w,
               const float *d, double *result) {
    read_mesh(mesh, points, order, base, w, d, result);
}

EQUICALC_VECTOR
void read_atom(const double *mesh, const int *points, int order, const int *base, const double *w,
               const double *d, double *result) {
    read_mesh(mesh, points, order, base, w, d, result);
}

}  // namespace

template <class Real>
CoulombMesh<Real>::CoulombMesh(const double *cell, const int *points, int order,
                               std::vector<double> sigmas, const CoulombOptions &options)
    : order_(order),
      reciprocal_(make_reciprocal(cell)),
      options_(with_threads(options)),
      widths_(sigmas),
      filter_(cell, checked(points, order), order, std::move(sigmas), options_) {
    std::copy(points, points + 3, points_);
}

template <class Real>
void CoulombMesh<Real>::set_cell(const double *cell) {
    reciprocal_ = make_reciprocal(cell);
    filter_.set_cell(cell);
}

template <class Real>
std::size_t CoulombMesh<Real>::size() const {
    return widths_.size() * points_[0] * points_[1] * points_[2];
}

template <class Real>
std::size_t CoulombMesh<Real>::spectrum_size() const {
    return widths_.size() * filter_.points_of_spectrum();
}

template <class Real>
void CoulombMesh<Real>::set_charges(const Charges &atoms) {
    const std::size_t n = atoms.n;
    charges_.assign(atoms.charges, atoms.charges + n);
    sigmas_.assign(atoms.sigmas, atoms.sigmas + n);
    group_by_width(n, atoms.sigmas, groups_);
    if (n > 0 && groups_.sigma != widths_) {
        throw std::invalid_argument("the widths of the charges are not those of the mesh: found " +
                                    std::to_string(groups_.size()) + " different ones, expected " +
                                    std::to_string(widths_.size()));
    }
    base_.resize(3 * n);
    weights_.assign(3 * n * kWidth, Real(0));
    slopes_.assign(3 * n * kWidth, Real(0));
    dispatch(order_, [&]<int Order> { make_splines<Order>(atoms.positions); });
    sort_into_bins();
}

template <class Real>
template <int Order>
void CoulombMesh<Real>::make_splines(const double *positions) {
    const auto count = static_cast<std::int64_t>(charges_.size());
#pragma omp parallel for num_threads(options_.threads) schedule(static)
    for (std::int64_t i = 0; i < count; ++i) {
        for (int a = 0; a < 3; ++a) {
            double s = 0.0;
            for (int x = 0; x < 3; ++x) {
                s += positions[3 * i + x] * reciprocal_.inverse[x][a];
            }
            const double u = (s - std::floor(s)) * points_[a];
            // s - floor(s) may round up to 1: the spline then starts one point later, at t = 0.
            const double whole = std::floor(u);
            double lower[Order + 1] = {}, value[Order + 1] = {};
            spline_values(u - whole, Order - 1, lower + 1);
            spline_values(u - whole, Order, value);
            base_[3 * i + a] = (static_cast<int>(whole) - Order + 1 + 2 * points_[a]) % points_[a];
            Real *w = &weights_[(3 * i + a) * kWidth], *d = &slopes_[(3 * i + a) * kWidth];
            for (int c = 0; c < Order; ++c) {
                // Mesh points in ascending order are spline arguments in descending order.
                const int j = Order - 1 - c;
                w[c] = static_cast<Real>(value[j]);
                d[c] = static_cast<Real>(points_[a] *
                                         ((j < Order - 1 ? lower[j + 1] : 0.0) - lower[j]));
            }
        }
    }
}

template <class Real>
void CoulombMesh<Real>::sort_into_bins() {
    const std::size_t n = charges_.size();
    const auto bin = [&](std::size_t i) { return groups_.member[i] * points_[0] + base_[3 * i]; };
    bin_start_.assign(widths_.size() * points_[0] + 1, 0);
    for (std::size_t i = 0; i < n; ++i) {
        ++bin_start_[bin(i) + 1];
    }
    for (std::size_t b = 1; b < bin_start_.size(); ++b) {
        bin_start_[b] += bin_start_[b - 1];
    }
    bins_.resize(n);
    std::vector<std::size_t> next(bin_start_.begin(), bin_start_.end() - 1);
    for (std::size_t i = 0; i < n; ++i) {
        bins_[next[bin(i)]++] = i;
    }
}

// One thread fills one plane of the mesh, atoms in a fixed order: no conflicts and no dependence on
// the number of threads.
template <class Real>
void CoulombMesh<Real>::spread(Real *mesh) {
    const int nx = points_[0], ny = points_[1], nz = points_[2];
    const auto planes = static_cast<std::int64_t>(widths_.size()) * nx;
    // Rows with a margin, folded back at the end, so that a spline never wraps along z.
    const std::size_t row = nz + kWidth - 1;
    planes_.resize(row * ny * options_.threads);
#pragma omp parallel num_threads(options_.threads)
    {
        const std::span<Real> plane(planes_.data() + row * ny * omp_get_thread_num(), row * ny);
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t at = 0; at < planes; ++at) {
            std::fill(plane.begin(), plane.end(), Real(0));
            const int x = static_cast<int>(at % nx);
            for (int cx = 0; cx < order_; ++cx) {
                const std::int64_t bin = at - x + (x - cx + nx) % nx;
                add_atoms(bins_.data() + bin_start_[bin], bin_start_[bin + 1] - bin_start_[bin], cx,
                          order_, ny, row, charges_.data(), base_.data(), weights_.data(),
                          plane.data());
            }
            for (int y = 0; y < ny; ++y) {
                Real *out = mesh + (at * ny + y) * nz;
                std::copy(&plane[y * row], &plane[y * row] + nz, out);
                for (int z = 0; z < order_ - 1; ++z) {
                    out[z] += plane[y * row + nz + z];
                }
            }
        }
    }
}

template <class Real>
void CoulombMesh<Real>::convolve(std::complex<Real> *spectra) {
    std::vector<double> squares(widths_.size(), 0.0);
    for (std::size_t i = 0; i < charges_.size(); ++i) {
        squares[groups_.member[i]] += charges_[i] * charges_[i];
    }
    energy_ = 0.0;
    std::fill(virial_, virial_ + 9, 0.0);
    filter_.apply(spectra, squares, energy_, virial_);
}

template <class Real>
CoulombSum CoulombMesh<Real>::gather(const Real *mesh) const {
    CoulombSum result;
    gather(mesh, 0, charges_.size(), result);
    return result;
}

template <class Real>
void CoulombMesh<Real>::gather(const Real *mesh, std::size_t first, std::size_t last,
                               CoulombSum &result) const {
    result.potentials.assign(charges_.size(), 0.0);
    result.forces.assign(3 * charges_.size(), 0.0);
    result.energy = energy_;
    std::copy(virial_, virial_ + 9, result.virial);
    const double scale = 4.0 * kPi * kCoulomb / reciprocal_.volume;
    const std::size_t size = static_cast<std::size_t>(points_[0]) * points_[1] * points_[2];
    const auto count = static_cast<std::int64_t>(charges_.size());
#pragma omp parallel for num_threads(options_.threads) schedule(static)
    for (std::int64_t at = 0; at < count; ++at) {
        const std::size_t i = bins_[at];  // neighbours on the mesh follow each other
        if (i < first || i >= last) {
            continue;
        }
        double found[4];
        read_atom(mesh + groups_.member[i] * size, points_, order_, &base_[3 * i],
                  &weights_[3 * kWidth * i], &slopes_[3 * kWidth * i], found);
        result.potentials[i] =
            scale * found[0] + filter_.self_potential(groups_.member[i]) * charges_[i];
        for (int c = 0; c < 3; ++c) {
            double slope = 0.0;
            for (int a = 0; a < 3; ++a) {
                slope += reciprocal_.inverse[c][a] * found[1 + a];
            }
            result.forces[3 * i + c] = -scale * charges_[i] * slope;
        }
    }
    add_self_and_background(charges_.size(), charges_.data(), sigmas_.data(), reciprocal_.volume,
                            options_, result);
}

template <class Real>
void CoulombMesh<Real>::begin_atom_virials(std::size_t first, std::size_t last,
                                           CoulombSum &result) const {
    const double background = -2.0 * kPi * kCoulomb / reciprocal_.volume;
    double total = 0.0, moment = 0.0;
    for (std::size_t i = 0; i < charges_.size(); ++i) {
        total += charges_[i];
        moment += charges_[i] * sigmas_[i] * sigmas_[i];
    }
    result.atom_virials.assign(9 * charges_.size(), 0.0);
    for (std::size_t i = first; i < last; ++i) {
        // the potential on the mesh alone
        const double sigma = sigmas_[i], q = charges_[i];
        const double own =
            filter_.self_potential(groups_.member[i]) - kCoulomb / (std::sqrt(kPi) * sigma);
        const double others =
            result.potentials[i] - own * q - background * (total * sigma * sigma + moment);
        for (int c = 0; c < 9; ++c) {
            result.atom_virials[9 * i + c] = q * q * filter_.self_virial(groups_.member[i])[c] +
                                             (c % 4 == 0 ? 0.5 * q * others : 0.0);
        }
    }
}

template <class Real>
void CoulombMesh<Real>::gather_atom_virials(const Real *mesh, int a, int b, std::size_t first,
                                            std::size_t last, CoulombSum &result) const {
    const double scale = 2.0 * kPi * kCoulomb / reciprocal_.volume;
    const auto count = static_cast<std::int64_t>(charges_.size());
#pragma omp parallel for num_threads(options_.threads) schedule(static)
    for (std::int64_t at = 0; at < count; ++at) {
        const std::size_t i = bins_[at];
        if (i < first || i >= last) {
            continue;
        }
        double found[4];
        read_atom(mesh, points_, order_, &base_[3 * i], &weights_[3 * kWidth * i],
                  &slopes_[3 * kWidth * i], found);
        const double share = scale * charges_[i] * found[0];
        result.atom_virials[9 * i + 3 * a + b] += share;
        result.atom_virials[9 * i + 3 * b + a] += a == b ? 0.0 : share;
    }
}

template class CoulombMesh<float>;
template class CoulombMesh<double>;

}  // namespace equicalc
