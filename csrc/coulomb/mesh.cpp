#include "coulomb/mesh.h"

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

constexpr int kWidth = kSplineWidth;
#define EQUICALC_INSIDE inline __attribute__((always_inline))

CoulombOptions with_threads(CoulombOptions options) {
    options.threads = std::max(1, options.threads);
    options.atom_virials = false;
    return options;
}

// Splines and the charges of their atoms.
template <class Real>
struct Spread {
    const std::size_t *atoms;
    const double *charges;
    const int *bases;
    const Real *weights;
};

// Splines from the first up to the last on one plane, their cx-th along x, with rows of `row`
// points.
template <class Real>
EQUICALC_INSIDE void add_to_plane(const Spread<Real> &splines, std::size_t first, std::size_t last,
                                  int cx, int order, int ny, std::size_t row, Real *plane) {
    for (std::size_t at = first; at < last; ++at) {
        const Real *w = splines.weights + 3 * kWidth * at;
        const Real qx = static_cast<Real>(splines.charges[splines.atoms[at]]) * w[cx];
        int y = splines.bases[3 * at + 1];
        for (int cy = 0; cy < order; ++cy) {
            const Real qxy = qx * w[kWidth + cy];
            Real *target = plane + y * row + splines.bases[3 * at + 2];
#pragma omp simd
            for (int cz = 0; cz < kWidth; ++cz) {
                target[cz] += qxy * w[2 * kWidth + cz];
            }
            y = y + 1 == ny ? 0 : y + 1;
        }
    }
}

EQUICALC_VECTOR
void add_atoms(const Spread<float> &splines, std::size_t first, std::size_t last, int cx, int order,
               int ny, std::size_t row, float *plane) {
    add_to_plane(splines, first, last, cx, order, ny, row, plane);
}

EQUICALC_VECTOR
void add_atoms(const Spread<double> &splines, std::size_t first, std::size_t last, int cx,
               int order, int ny, std::size_t row, double *plane) {
    add_to_plane(splines, first, last, cx, order, ny, row, plane);
}

// Some planes of a mesh of the potential.
template <class Real>
struct Planes {
    const Real *mesh;
    const int *points;
    std::array<int, 2> range;
};

// What these planes contribute to the potential at one atom and its slopes along the three vectors:
// result[4].
template <class Real>
EQUICALC_INSIDE void read_mesh(const Planes<Real> &planes, int order, const int *base,
                               const Real *w, const Real *d, double *result) {
    const int ny = planes.points[1], nz = planes.points[2];
    const bool wraps = base[2] + kWidth > nz;
    int places[kWidth] = {};
    for (int cz = 0; wraps && cz < kWidth; ++cz) {
        places[cz] = (base[2] + cz) % nz;
    }
    Real value[kWidth] = {}, along_x[kWidth] = {}, along_y[kWidth] = {};
    int x = base[0];
    for (int cx = 0; cx < order; ++cx) {
        if (x >= planes.range[0] && x < planes.range[1]) {
            const Real *plane =
                planes.mesh + static_cast<std::size_t>(x - planes.range[0]) * ny * nz;
            Real inside[kWidth] = {}, slope[kWidth] = {};
            int y = base[1];
            for (int cy = 0; cy < order; ++cy) {
                const Real *row = plane + static_cast<std::size_t>(y) * nz;
                const Real *local = row + base[2];
                Real wrapped[kWidth];
                if (wraps) {
                    for (int cz = 0; cz < kWidth; ++cz) {
                        wrapped[cz] = row[places[cz]];
                    }
                    local = wrapped;
                }
#pragma omp simd
                for (int cz = 0; cz < kWidth; ++cz) {
                    inside[cz] += w[kWidth + cy] * local[cz];
                    slope[cz] += d[kWidth + cy] * local[cz];
                }
                y = y + 1 == ny ? 0 : y + 1;
            }
#pragma omp simd
            for (int cz = 0; cz < kWidth; ++cz) {
                value[cz] += w[cx] * inside[cz];
                along_x[cz] += d[cx] * inside[cz];
                along_y[cz] += w[cx] * slope[cz];
            }
        }
        x = x + 1 == planes.points[0] ? 0 : x + 1;
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
void read_atom(const Planes<float> &planes, int order, const int *base, const float *w,
               const float *d, double *result) {
    read_mesh(planes, order, base, w, d, result);
}

EQUICALC_VECTOR
void read_atom(const Planes<double> &planes, int order, const int *base, const double *w,
               const double *d, double *result) {
    read_mesh(planes, order, base, w, d, result);
}

}  // namespace

template <class Real>
CoulombMesh<Real>::CoulombMesh(const double *cell, const int *points, int order,
                               std::vector<double> sigmas, const CoulombOptions &options)
    : CoulombMesh(cell, points, order, std::move(sigmas), options,
                  MeshShare{{0, points[0]}, {0, points[1]}}) {}

template <class Real>
CoulombMesh<Real>::CoulombMesh(const double *cell, const int *points, int order,
                               std::vector<double> sigmas, const CoulombOptions &options,
                               const MeshShare &share)
    : points_{points[0], points[1], points[2]},
      order_(order),
      share_(share),
      reciprocal_(make_reciprocal(cell)),
      options_(with_threads(options)),
      widths_(std::move(sigmas)),
      splines_(points, order, share.planes, widths_.size(), options_.threads),
      filter_(cell, points, order, widths_, options_, share.rows),
      squares_(widths_.size()) {}

template <class Real>
void CoulombMesh<Real>::set_cell(const double *cell) {
    reciprocal_ = make_reciprocal(cell);
    filter_.set_cell(cell);
}

template <class Real>
std::size_t CoulombMesh<Real>::size() const {
    const std::size_t planes = share_.planes[1] - share_.planes[0];
    return widths_.size() * planes * points_[1] * points_[2];
}

template <class Real>
std::size_t CoulombMesh<Real>::spectrum_size() const {
    return widths_.size() * filter_.points_of_spectrum();
}

template <class Real>
std::size_t CoulombMesh<Real>::memory_bytes() const {
    return splines_.memory_bytes() + sizeof(double) * charges_.capacity();
}

template <class Real>
void CoulombMesh<Real>::set_charges(const Charges &atoms) {
    charges_.assign(atoms.charges, atoms.charges + atoms.n);
    groups_.member.clear();
    if (atoms.sigmas != nullptr) {
        group_by_width(atoms.n, atoms.sigmas, groups_);
        if (atoms.n > 0 && groups_.sigma != widths_) {
            throw std::invalid_argument(
                "the widths of the charges are not those of the mesh: "
                "found " +
                std::to_string(groups_.size()) + " different ones, expected " +
                std::to_string(widths_.size()));
        }
    }
    total_ = moment_ = 0.0;
    std::fill(squares_.begin(), squares_.end(), 0.0);
    for (std::size_t i = 0; i < atoms.n; ++i) {
        const double sigma = widths_[group_of(i)];
        total_ += charges_[i];
        moment_ += charges_[i] * sigma * sigma;
        squares_[group_of(i)] += charges_[i] * charges_[i];
    }
    const bool is_one = groups_.member.empty();
    splines_.set(atoms.n, atoms.positions, is_one ? nullptr : groups_.member.data(), reciprocal_);
}

// One thread fills one plane of the mesh, atoms in a fixed order: no conflicts and no dependence on
// the number of threads.
template <class Real>
void CoulombMesh<Real>::spread(Real *mesh) {
    const int nx = points_[0], ny = points_[1], nz = points_[2];
    const int first = share_.planes[0], n_planes = share_.planes[1] - first;
    const auto all = static_cast<std::int64_t>(widths_.size()) * n_planes;
    const Spread<Real> splines{splines_.atoms(), charges_.data(), splines_.bases(),
                               splines_.weights()};
    // Rows with a margin, folded back at the end, so that a spline never wraps along z.
    const std::size_t row = nz + kWidth - 1;
    planes_.resize(row * ny * options_.threads);
#pragma omp parallel num_threads(options_.threads)
    {
        const std::span<Real> plane(planes_.data() + row * ny * omp_get_thread_num(), row * ny);
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t at = 0; at < all; ++at) {
            std::fill(plane.begin(), plane.end(), Real(0));
            const int x = first + static_cast<int>(at % n_planes);
            for (int cx = 0; cx < order_; ++cx) {
                const auto [from, to] = splines_.of_plane(at / n_planes, (x - cx + nx) % nx);
                add_atoms(splines, from, to, cx, order_, ny, row, plane.data());
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
    begin_convolve(spectra);
    end_convolve();
}

template <class Real>
void CoulombMesh<Real>::end_convolve() {
    energy_ = 0.0;
    std::fill(virial_, virial_ + 9, 0.0);
    filter_.complete(sums_, squares_, energy_, virial_);
}

// Calls take(i, found) for the atoms that reach into the planes of this share.
template <class Real>
template <class Take>
void CoulombMesh<Real>::read(const Real *mesh, const Take &take) const {
    const auto count = static_cast<std::int64_t>(splines_.size());
    const std::size_t size = this->size() / widths_.size();
#pragma omp parallel for num_threads(options_.threads) schedule(static)
    for (std::int64_t at = 0; at < count; ++at) {  // neighbours on the mesh follow each other
        const std::size_t i = splines_.atoms()[at];
        double found[4];
        read_atom(Planes<Real>{mesh + group_of(i) * size, points_, share_.planes}, order_,
                  splines_.bases() + 3 * at, splines_.weights() + 3 * kWidth * at,
                  splines_.slopes() + 3 * kWidth * at, found);
        take(i, found);
    }
}

template <class Real>
CoulombSum CoulombMesh<Real>::gather(const Real *mesh) const {
    CoulombSum result;
    std::vector<double> found(4 * charges_.size());
    begin_gather(mesh, found.data());
    end_gather(found.data(), 0, charges_.size(), result);
    return result;
}

template <class Real>
void CoulombMesh<Real>::begin_gather(const Real *mesh, double *found) const {
    if (splines_.size() < charges_.size()) {
        std::fill(found, found + 4 * charges_.size(), 0.0);
    }
    read(mesh,
         [&](std::size_t i, const double *here) { std::copy(here, here + 4, found + 4 * i); });
}

// What is not on the mesh of the potential that an atom has of its own.
template <class Real>
double CoulombMesh<Real>::self_potential(std::size_t i) const {
    const std::size_t g = group_of(i);
    return charges_[i] * (filter_.self_potential(g) - kCoulomb / (std::sqrt(kPi) * widths_[g]));
}

template <class Real>
double CoulombMesh<Real>::background_potential(std::size_t i) const {
    const double sigma = widths_[group_of(i)];
    return -2.0 * kPi * kCoulomb / reciprocal_.volume * (total_ * sigma * sigma + moment_);
}

template <class Real>
void CoulombMesh<Real>::end_gather(const double *found, std::size_t first, std::size_t last,
                                   CoulombSum &result) const {
    const double scale = 4.0 * kPi * kCoulomb / reciprocal_.volume;
    result.potentials.resize(last - first);
    result.forces.resize(3 * (last - first));
    for (std::size_t i = first; i < last; ++i, found += 4) {
        result.potentials[i - first] =
            scale * found[0] + self_potential(i) + background_potential(i);
        for (int c = 0; c < 3; ++c) {
            double slope = 0.0;
            for (int a = 0; a < 3; ++a) {
                slope += reciprocal_.inverse[c][a] * found[1 + a];
            }
            result.forces[3 * (i - first) + c] = -scale * charges_[i] * slope;
        }
    }
    result.energy = energy_;
    std::copy(virial_, virial_ + 9, result.virial);
    for (std::size_t g = 0; g < widths_.size(); ++g) {
        result.energy -= 0.5 * kCoulomb / (std::sqrt(kPi) * widths_[g]) * squares_[g];
    }
    const double background = -2.0 * kPi * kCoulomb / reciprocal_.volume * total_ * moment_;
    result.energy += background;
    for (int x = 0; x < 3; ++x) {
        result.virial[4 * x] += background;
    }
}

template <class Real>
void CoulombMesh<Real>::gather_column(const Real *mesh, std::size_t column, std::size_t width,
                                      double *found) const {
    if (splines_.size() < charges_.size()) {
        for (std::size_t i = 0; i < charges_.size(); ++i) {
            found[width * i + column] = 0.0;
        }
    }
    read(mesh, [&](std::size_t i, const double *here) { found[width * i + column] = here[0]; });
}

template <class Real>
void CoulombMesh<Real>::end_virials(const double *found, std::size_t first, std::size_t last,
                                    CoulombSum &result) const {
    const double scale = 2.0 * kPi * kCoulomb / reciprocal_.volume;
    result.atom_virials.resize(9 * (last - first));
    for (std::size_t i = first; i < last; ++i, found += 6) {
        const std::size_t g = group_of(i);
        // the potential on the mesh alone
        const double q = charges_[i];
        const double others =
            result.potentials[i - first] - self_potential(i) - background_potential(i);
        double *virial = &result.atom_virials[9 * (i - first)];
        for (int c = 0; c < 9; ++c) {
            virial[c] = q * q * filter_.self_virial(g)[c] + (c % 4 == 0 ? 0.5 * q * others : 0.0);
        }
        for (std::size_t axes = 0; axes < kVirialAxes.size(); ++axes) {
            const auto [a, b] = kVirialAxes[axes];
            virial[3 * a + b] += scale * q * found[axes];
            virial[3 * b + a] += a == b ? 0.0 : scale * q * found[axes];
        }
    }
}

template <class Real>
void CoulombMesh<Real>::end_source_moments(const double *found, std::size_t first, std::size_t last,
                                           CoulombSum &result) const {
    const double scale = 4.0 * kPi * kCoulomb / reciprocal_.volume;
    result.source_moments.resize(3 * (last - first));
    for (double &moment : result.source_moments) {
        moment = scale * *found++;
    }
}

template class CoulombMesh<float>;
template class CoulombMesh<double>;

}  // namespace equicalc
