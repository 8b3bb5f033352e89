#include "coulomb/mesh_filter.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "coulomb/waves.h"

namespace equicalc {
namespace {

constexpr std::size_t kMoments = 7;  // of one plane of the spectrum
constexpr std::size_t kOfSelf = 10;  // numbers of each width: potential and virial

int signed_index(int i, int n) { return 2 * i > n ? i - n : i; }

// Power of a row of the half spectrum of one width, weighted; the row is filtered. The sums run
// over its inner waves, which stand for k and -k.
template <class Real>
inline __attribute__((always_inline)) void filter_row(Real *row, const Real *value,
                                                      const Real *slope, int n, double *sums) {
    double energy = 0.0, stress = 0.0, first = 0.0, second = 0.0;
#pragma omp simd reduction(+ : energy, stress, first, second)
    for (int z = 0; z < n; ++z) {
        const Real re = row[2 * z], im = row[2 * z + 1];
        const Real power = re * re + im * im;
        const double s = static_cast<double>(slope[z] * power), h = z;
        energy += static_cast<double>(value[z] * power);
        stress += s;
        first += h * s;
        second += h * h * s;
        row[2 * z] = value[z] * re;
        row[2 * z + 1] = value[z] * im;
    }
    sums[0] = energy;
    sums[1] = stress;
    sums[2] = first;
    sums[3] = second;
}

EQUICALC_VECTOR
void filter(float *row, const float *value, const float *slope, int n, double *sums) {
    filter_row(row, value, slope, n, sums);
}

EQUICALC_VECTOR
void filter(double *row, const double *value, const double *slope, int n, double *sums) {
    filter_row(row, value, slope, n, sums);
}

}  // namespace

void make_window(int n, int order, std::vector<double> &influence, std::vector<double> &kept) {
    std::vector<double> twice(2 * order);
    spline_values(0.0, 2 * order, twice.data());
    influence.resize(n);
    kept.resize(n);
    for (int i = 0; i < n; ++i) {
        const int h = 2 * i > n ? i - n : i;
        double sum = twice[order];
        for (int j = 1; j < order; ++j) {
            sum += 2.0 * twice[order + j] * std::cos(2.0 * kPi * h * j / n);
        }
        const double x = kPi * h / n;
        const double sinc = h == 0 ? 1.0 : std::sin(x) / x;
        kept[i] = std::pow(sinc, 2 * order) / sum;
        influence[i] = kept[i] / sum;
    }
}

void add_moments(const double *moments, const Reciprocal &reciprocal, double &energy,
                 double *virial) {
    const double *m = moments, prefactor = 2.0 * kPi * kCoulomb / reciprocal.volume;
    const double full[3][3] = {{m[1], m[6], m[5]}, {m[6], m[2], m[4]}, {m[5], m[4], m[3]}};
    energy += prefactor * m[0];
    for (int x = 0; x < 3; ++x) {
        virial[4 * x] += prefactor * m[0];
        for (int y = 0; y < 3; ++y) {
            double sum = 0.0;
            for (int a = 0; a < 3; ++a) {
                for (int b = 0; b < 3; ++b) {
                    sum += reciprocal.inverse[x][a] * full[a][b] * reciprocal.inverse[y][b];
                }
            }
            virial[3 * x + y] += 8.0 * kPi * kPi * prefactor * sum;
        }
    }
}

template <class Real>
MeshFilter<Real>::MeshFilter(const double *cell, const int *points, int order,
                             std::vector<double> sigmas, const CoulombOptions &options,
                             std::array<int, 2> rows)
    : order_(order),
      threads_(options.threads),
      first_row_(rows[0]),
      rows_(rows[1] - rows[0]),
      options_(options),
      sigmas_(std::move(sigmas)) {
    for (int a = 0; a < 3; ++a) {
        points_[a] = points[a];
        make_window(points[a], order, influence_[a], kept_[a]);
    }
    value_.resize(points_of_spectrum());
    slope_.resize(points_of_spectrum());
    damping_.resize(sigmas_.size() > 1 ? sigmas_.size() * points_of_spectrum() : 0);
    planes_.assign(points_[0], std::vector<Self>(sigmas_.size()));
    selves_.resize(sigmas_.size());
    moments_.resize(kMoments * points_[0]);
    set_cell(cell);
}

template <class Real>
void MeshFilter<Real>::set_cell(const double *cell) {
    reciprocal_ = make_reciprocal(cell);
#pragma omp parallel for num_threads(threads_) schedule(dynamic, 1)
    for (int x = 0; x < points_[0]; ++x) {
        fill_plane(x, planes_[x]);
    }
}

template <class Real>
std::size_t MeshFilter<Real>::points_of_spectrum() const {
    return static_cast<std::size_t>(points_[0]) * rows_ * (points_[2] / 2 + 1);
}

template <class Real>
void MeshFilter<Real>::fill_plane(int x, std::vector<Self> &selves) {
    const int nz = points_[2], half = nz / 2 + 1;
    const int hx = signed_index(x, points_[0]);
    std::fill(selves.begin(), selves.end(), Self());
    for (int row = 0; row < rows_; ++row) {
        const int y = first_row_ + row, hy = signed_index(y, points_[1]);
        for (int z = 0; z < half; ++z) {
            const std::size_t at = (static_cast<std::size_t>(x) * rows_ + row) * half + z;
            double k[3], k_sq = 0.0;
            for (int a = 0; a < 3; ++a) {
                const double *b = reciprocal_.inverse[a];
                k[a] = 2.0 * kPi * (hx * b[0] + hy * b[1] + z * b[2]);
                k_sq += k[a] * k[a];
            }
            const Weight weight = wave_weight(k_sq, options_);
            if (weight.value == 0.0) {
                value_[at] = slope_[at] = Real(0);
                continue;
            }
            const double f = influence_[0][x] * influence_[1][y] * influence_[2][z];
            const double multiplicity = z == 0 || 2 * z == nz ? 1.0 : 2.0;
            const double lost = multiplicity * (1.0 - kept_[0][x] * kept_[1][y] * kept_[2][z]);
            double value = f * weight.value, slope = f * weight.slope;
            for (std::size_t g = 0; g < sigmas_.size(); ++g) {
                const double sigma_sq = sigmas_[g] * sigmas_[g];
                const double damping = std::exp(-0.5 * sigma_sq * k_sq);
                const double own = lost * damping * damping;
                const double steep = own * (weight.slope - sigma_sq * weight.value);
                selves[g].potential += own * weight.value;
                for (int c = 0; c < 9; ++c) {
                    selves[g].virial[c] += steep * k[c / 3] * k[c % 3];
                }
                if (!damping_.empty()) {
                    damping_[g * points_of_spectrum() + at] = static_cast<Real>(damping);
                } else {
                    slope = damping * damping * (slope - sigma_sq * value);
                    value *= damping * damping;
                }
            }
            value_[at] = static_cast<Real>(value);
            slope_[at] = static_cast<Real>(slope);
        }
    }
}

template <class Real>
auto MeshFilter<Real>::one_width(std::complex<Real> *row, std::size_t at) const -> RowSums {
    const int nz = points_[2], half = nz / 2 + 1;
    // The other half of the spectrum holds the conjugates, except of the first wave and of the last
    // of an even row.
    const Real ends[2] = {std::norm(row[0]), std::norm(row[half - 1])};
    double sums[4];
    filter(reinterpret_cast<Real *>(row), &value_[at], &slope_[at], half, sums);
    RowSums result{2.0 * sums[0], 2.0 * sums[1], 2.0 * sums[2], 2.0 * sums[3]};
    for (int z : {0, half - 1}) {
        if (z == 0 || 2 * z == nz) {
            const double power = ends[z > 0], s = static_cast<double>(slope_[at + z]) * power;
            result.energy -= static_cast<double>(value_[at + z]) * power;
            result.stress -= s;
            result.first -= z * s;
            result.second -= static_cast<double>(z) * z * s;
        }
    }
    return result;
}

template <class Real>
auto MeshFilter<Real>::several_widths(std::complex<Real> *row, std::size_t at) const -> RowSums {
    const int nz = points_[2], half = nz / 2 + 1;
    const std::size_t spacing = points_of_spectrum();
    RowSums result;
    for (int z = 0; z < half; ++z) {
        // S(k) and its derivative with respect to k^2 at fixed spectra.
        std::complex<double> sum = 0.0, change = 0.0;
        for (std::size_t g = 0; g < sigmas_.size(); ++g) {
            const std::complex<Real> part = damping_[g * spacing + at + z] * row[g * spacing + z];
            sum += std::complex<double>(part);
            change -= 0.5 * sigmas_[g] * sigmas_[g] * std::complex<double>(part);
        }
        const double multiplicity = z == 0 || 2 * z == nz ? 1.0 : 2.0;
        const double value = value_[at + z], power = std::norm(sum);
        const double inner = sum.real() * change.real() + sum.imag() * change.imag();
        const double s = multiplicity * (slope_[at + z] * power + 2.0 * value * inner);
        result.energy += multiplicity * value * power;
        result.stress += s;
        result.first += z * s;
        result.second += static_cast<double>(z) * z * s;
        for (std::size_t g = 0; g < sigmas_.size(); ++g) {
            row[g * spacing + z] = std::complex<Real>(
                value * static_cast<double>(damping_[g * spacing + at + z]) * sum);
        }
    }
    return result;
}

// Adds energy and the moments 11, 22, 33, 23, 13, 12 of h to moments[7].
template <class Real>
void MeshFilter<Real>::add_row(int x, int y, const RowSums &sums, double *moments) const {
    const double h1 = signed_index(x, points_[0]), h2 = signed_index(y, points_[1]);
    moments[0] += sums.energy;
    moments[1] += h1 * h1 * sums.stress;
    moments[2] += h2 * h2 * sums.stress;
    moments[3] += sums.second;
    moments[4] += h2 * sums.first;
    moments[5] += h1 * sums.first;
    moments[6] += h1 * h2 * sums.stress;
}

// Numbers are added plane by plane, in order: they do not depend on the number of threads.
template <class Real>
void MeshFilter<Real>::apply(std::complex<Real> *spectra, std::vector<double> &sums) {
    const int nx = points_[0], half = points_[2] / 2 + 1;
    std::fill(moments_.begin(), moments_.end(), 0.0);
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (int x = 0; x < nx; ++x) {
        for (int row = 0; row < rows_; ++row) {
            const std::size_t at = (static_cast<std::size_t>(x) * rows_ + row) * half;
            add_row(x, first_row_ + row,
                    sigmas_.size() == 1 ? one_width(spectra + at, at)
                                        : several_widths(spectra + at, at),
                    &moments_[kMoments * x]);
        }
    }
    sums.assign(kMoments + kOfSelf * sigmas_.size(), 0.0);
    for (int x = 0; x < nx; ++x) {
        for (std::size_t c = 0; c < kMoments; ++c) {
            sums[c] += moments_[kMoments * x + c];
        }
        double *self = sums.data() + kMoments;
        for (const Self &part : planes_[x]) {
            *self++ += part.potential;
            for (const double value : part.virial) {
                *self++ += value;
            }
        }
    }
}

template <class Real>
void MeshFilter<Real>::complete(const std::vector<double> &sums, const std::vector<double> &squares,
                                double &energy, double *virial) {
    add_moments(sums.data(), reciprocal_, energy, virial);
    const double prefactor = 4.0 * kPi * kCoulomb / reciprocal_.volume;
    for (std::size_t g = 0; g < sigmas_.size(); ++g) {
        const double *self = &sums[kMoments + kOfSelf * g];
        selves_[g].potential = prefactor * self[0];
        for (int c = 0; c < 9; ++c) {
            selves_[g].virial[c] =
                prefactor * self[1 + c] + (c % 4 == 0 ? 0.5 * selves_[g].potential : 0.0);
            virial[c] += squares[g] * selves_[g].virial[c];
        }
        energy += 0.5 * squares[g] * selves_[g].potential;
    }
}

template <class Real>
void MeshFilter<Real>::stress(const std::complex<Real> *charges, int a, int b,
                              std::complex<Real> *out) const {
    const int half = points_[2] / 2 + 1;
    const double *ia = reciprocal_.inverse[a], *ib = reciprocal_.inverse[b];
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (int x = 0; x < points_[0]; ++x) {
        const double hx = signed_index(x, points_[0]);
        for (int row = 0; row < rows_; ++row) {
            const double hy = signed_index(first_row_ + row, points_[1]);
            const std::size_t at = (static_cast<std::size_t>(x) * rows_ + row) * half;
            for (int z = 0; z < half; ++z) {
                const double ka = hx * ia[0] + hy * ia[1] + z * ia[2];
                const double kb = hx * ib[0] + hy * ib[1] + z * ib[2];
                const double factor = 8.0 * kPi * kPi * ka * kb;
                out[at + z] = static_cast<Real>(factor * slope_[at + z]) * charges[at + z];
            }
        }
    }
}

template <class Real>
void MeshFilter<Real>::source_moment(const std::complex<Real> *charges, int a,
                                     std::complex<Real> *out) const {
    const int nx = points_[0], ny = points_[1], nz = points_[2], half = nz / 2 + 1;
    const double *inverse = reciprocal_.inverse[a];
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (int x = 0; x < nx; ++x) {
        for (int row = 0; row < rows_; ++row) {
            const int y = first_row_ + row;
            const double in_plane =
                signed_index(x, nx) * inverse[0] + signed_index(y, ny) * inverse[1];
            // The last wave of an even direction stands for k and -k, whose parts cancel.
            const bool is_last = 2 * x == nx || 2 * y == ny;
            const std::size_t at = (static_cast<std::size_t>(x) * rows_ + row) * half;
            for (int z = 0; z < half; ++z) {
                const bool cancels = is_last || 2 * z == nz;
                const double factor = cancels ? 0.0 : -4.0 * kPi * (in_plane + z * inverse[2]);
                const Real weight = static_cast<Real>(factor * static_cast<double>(slope_[at + z]));
                out[at + z] = {-weight * charges[at + z].imag(), weight * charges[at + z].real()};
            }
        }
    }
}

template class MeshFilter<float>;
template class MeshFilter<double>;

}  // namespace equicalc
