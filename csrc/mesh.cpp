#include "mesh.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "waves.h"

namespace equicalc {
namespace {

// Values of the cardinal B-spline of `order` at t, t + 1, ... for 0 <= t < 1 (values[0..order)).
void spline_values(double t, int order, double *values) {
    values[0] = t;
    values[1] = 1.0 - t;
    for (int k = 3; k <= order; ++k) {
        const double scale = 1.0 / (k - 1);
        values[k - 1] = scale * (1.0 - t) * values[k - 2];
        for (int j = k - 2; j > 0; --j) {
            values[j] = scale * ((t + j) * values[j] + (k - t - j) * values[j - 1]);
        }
        values[0] *= scale * t;
    }
}

// The window of the spline U(h) = sinc^p(h / n) along one direction, and what folds onto it from
// the images m of the mesh: U^2 / (sum_m U^2)^2 and U^2 / sum_m U^2. The sum over m is the Fourier
// series of the spline of twice the order at the integers.
struct Window {
    std::vector<double> influence, kept;
};

Window make_window(int n, int order) {
    std::vector<double> twice(2 * order);
    Window window{std::vector<double>(n), std::vector<double>(n)};
    spline_values(0.0, 2 * order, twice.data());
    for (int i = 0; i < n; ++i) {
        const int h = 2 * i > n ? i - n : i;
        double sum = twice[order];
        for (int j = 1; j < order; ++j) {
            sum += 2.0 * twice[order + j] * std::cos(2.0 * kPi * h * j / n);
        }
        const double x = kPi * h / n;
        const double sinc = h == 0 ? 1.0 : std::sin(x) / x;
        window.kept[i] = std::pow(sinc, 2 * order) / sum;
        window.influence[i] = window.kept[i] / sum;
    }
    return window;
}

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

}  // namespace

CoulombMesh::CoulombMesh(const double *cell, const int *points, int order,
                         const CoulombOptions &options)
    : order_(order), options_(options) {
    std::copy(cell, cell + 9, cell_);
    std::copy(points, points + 3, points_);
    dispatch(order, []<int> {});
    for (int a = 0; a < 3; ++a) {
        if (points_[a] < order) {
            throw std::invalid_argument("a mesh for splines of order " + std::to_string(order) +
                                        " needs as many points in each direction; found " +
                                        std::to_string(points_[a]));
        }
    }
    options_.threads = std::max(1, options.threads);
}

std::size_t CoulombMesh::size() const { return groups() * points_[0] * points_[1] * points_[2]; }

std::size_t CoulombMesh::spectrum_size() const {
    return groups() * points_[0] * points_[1] * (points_[2] / 2 + 1);
}

void CoulombMesh::set_charges(const Charges &atoms) {
    const Reciprocal reciprocal = make_reciprocal(cell_);
    const std::size_t n = atoms.n;
    const double *positions = atoms.positions;
    charges_.assign(atoms.charges, atoms.charges + n);
    sigmas_.assign(atoms.sigmas, atoms.sigmas + n);
    groups_ = group_by_width(n, atoms.sigmas);
    if (n == 0) {
        groups_.sigma.assign(1, 1.0);  // an empty mesh
        groups_.start.assign(2, 0);
    }
    base_.resize(3 * n);
    weights_.resize(3 * n * order_);
    slopes_.resize(3 * n * order_);
    const auto count = static_cast<std::int64_t>(n);
#pragma omp parallel for num_threads(options_.threads) schedule(static)
    for (std::int64_t i = 0; i < count; ++i) {
        for (int a = 0; a < 3; ++a) {
            double s = 0.0;
            for (int x = 0; x < 3; ++x) {
                s += positions[3 * i + x] * reciprocal.inverse[x][a];
            }
            const double u = (s - std::floor(s)) * points_[a];
            // s - floor(s) may round up to 1: the spline then starts one point later, at t = 0.
            const double whole = std::floor(u);
            double lower[kMaxSplineOrder + 1] = {}, value[kMaxSplineOrder + 1] = {};
            spline_values(u - whole, order_ - 1, lower + 1);
            spline_values(u - whole, order_, value);
            base_[3 * i + a] = (static_cast<int>(whole) - order_ + 1 + 2 * points_[a]) % points_[a];
            double *w = &weights_[(3 * i + a) * order_], *d = &slopes_[(3 * i + a) * order_];
            for (int c = 0; c < order_; ++c) {
                // Mesh points in ascending order are spline arguments in descending order.
                const int j = order_ - 1 - c;
                w[c] = value[j];
                d[c] = points_[a] * ((j < order_ - 1 ? lower[j + 1] : 0.0) - lower[j]);
            }
        }
    }
    sort_into_bins();
}

void CoulombMesh::sort_into_bins() {
    const std::size_t n = charges_.size();
    const auto bin = [&](std::size_t i) { return groups_.member[i] * points_[0] + base_[3 * i]; };
    bin_start_.assign(groups() * points_[0] + 1, 0);
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

void CoulombMesh::spread(double *mesh) const {
    dispatch(order_, [&]<int Order> { spread_order<Order>(mesh); });
}

// One thread fills one plane of the mesh, atoms in a fixed order: no conflicts and no dependence on
// the number of threads.
template <int Order>
void CoulombMesh::spread_order(double *mesh) const {
    const auto planes = static_cast<std::int64_t>(groups() * points_[0]);
    const int nx = points_[0], ny = points_[1], nz = points_[2];
#pragma omp parallel num_threads(options_.threads)
    {
        // Rows with a margin, folded back at the end, so that a spline never wraps along z.
        const std::size_t row = nz + Order - 1;
        std::vector<double> plane(row * ny);
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t at_plane = 0; at_plane < planes; ++at_plane) {
            std::fill(plane.begin(), plane.end(), 0.0);
            const int x = static_cast<int>(at_plane % nx);
            for (int cx = 0; cx < Order; ++cx) {
                const std::int64_t bin = at_plane - x + (x - cx + nx) % nx;
                for (std::size_t at = bin_start_[bin]; at < bin_start_[bin + 1]; ++at) {
                    const std::size_t i = bins_[at];
                    const double *w = &weights_[3 * i * Order];
                    const double qx = charges_[i] * w[cx];
                    int y = base_[3 * i + 1];
                    for (int cy = 0; cy < Order; ++cy) {
                        const double qxy = qx * w[Order + cy];
                        double *target = &plane[y * row + base_[3 * i + 2]];
                        for (int cz = 0; cz < Order; ++cz) {
                            target[cz] += qxy * w[2 * Order + cz];
                        }
                        y = y + 1 == ny ? 0 : y + 1;
                    }
                }
            }
            for (int y = 0; y < ny; ++y) {
                double *out = mesh + (at_plane * ny + y) * nz;
                std::copy(&plane[y * row], &plane[y * row] + nz, out);
                for (int z = 0; z < Order - 1; ++z) {
                    out[z] += plane[y * row + nz + z];
                }
            }
        }
    }
}

void CoulombMesh::convolve(std::complex<double> *spectrum) {
    const Reciprocal reciprocal = make_reciprocal(cell_);
    const double prefactor = 2.0 * kPi * kCoulomb / reciprocal.volume;
    const int nx = points_[0], ny = points_[1], nz = points_[2], half = nz / 2 + 1;
    const Window wx = make_window(nx, order_), wy = make_window(ny, order_),
                 wz = make_window(nz, order_);
    std::vector<double> squares(groups(), 0.0);  // sum of q^2 of each width
    for (std::size_t i = 0; i < charges_.size(); ++i) {
        squares[groups_.member[i]] += charges_[i] * charges_[i];
    }
    const std::size_t spacing = spectrum_size() / std::max<std::size_t>(1, groups());
    // Per plane, added up in order afterwards: independent of the number of threads.
    std::vector<double> energies(nx, 0.0), virials(9 * nx, 0.0), selves(groups() * nx, 0.0);
#pragma omp parallel num_threads(options_.threads)
    {
        std::vector<double> damping(groups());
#pragma omp for schedule(dynamic, 1)
        for (int x = 0; x < nx; ++x) {
            for (int y = 0; y < ny; ++y) {
                const int hx = 2 * x > nx ? x - nx : x, hy = 2 * y > ny ? y - ny : y;
                std::complex<double> *row =
                    spectrum + (static_cast<std::size_t>(x) * ny + y) * half;
                for (int z = 0; z < half; ++z) {
                    double k[3], k_sq = 0.0;
                    for (int a = 0; a < 3; ++a) {
                        const double *b = reciprocal.inverse[a];
                        k[a] = 2.0 * kPi * (hx * b[0] + hy * b[1] + z * b[2]);
                        k_sq += k[a] * k[a];
                    }
                    const Weight weight = wave_weight(k_sq, options_);
                    // S(k) and its derivative with respect to k^2 at fixed spectra.
                    std::complex<double> sum = 0.0, slope = 0.0;
                    for (std::size_t g = 0; weight.value != 0.0 && g < groups(); ++g) {
                        const double sigma_sq = groups_.sigma[g] * groups_.sigma[g];
                        damping[g] = std::exp(-0.5 * sigma_sq * k_sq);
                        const std::complex<double> part = damping[g] * row[g * spacing + z];
                        sum += part;
                        slope -= 0.5 * sigma_sq * part;
                    }
                    // The other half of the spectrum holds the conjugates, except of these planes.
                    const double multiplicity = z == 0 || 2 * z == nz ? 1.0 : 2.0;
                    const double f = wx.influence[x] * wy.influence[y] * wz.influence[z];
                    const double value = multiplicity * f * weight.value;
                    double energy = value * std::norm(sum);
                    double stress =
                        multiplicity * f * weight.slope * std::norm(sum) +
                        2.0 * value * (sum.real() * slope.real() + sum.imag() * slope.imag());
                    // What the mesh takes from the interaction of a charge with itself, on average.
                    const double lost = multiplicity * (1.0 - wx.kept[x] * wy.kept[y] * wz.kept[z]);
                    for (std::size_t g = 0; weight.value != 0.0 && g < groups(); ++g) {
                        const double share = lost * damping[g] * damping[g];
                        const double sigma_sq = groups_.sigma[g] * groups_.sigma[g];
                        selves[g * nx + x] += share * weight.value;
                        energy += squares[g] * share * weight.value;
                        stress += squares[g] * share * (weight.slope - sigma_sq * weight.value);
                    }
                    energies[x] += energy;
                    for (int c = 0; c < 9; ++c) {
                        virials[9 * x + c] += stress * k[c / 3] * k[c % 3];
                    }
                    for (std::size_t g = 0; g < groups(); ++g) {
                        row[g * spacing + z] =
                            weight.value == 0.0 ? 0.0 : f * weight.value * damping[g] * sum;
                    }
                }
            }
        }
    }
    energy_ = 0.0;
    self_.assign(groups(), 0.0);
    std::fill(virial_, virial_ + 9, 0.0);
    for (int x = 0; x < nx; ++x) {
        energy_ += prefactor * energies[x];
        for (std::size_t g = 0; g < groups(); ++g) {
            self_[g] += 2.0 * prefactor * selves[g * nx + x];
        }
        for (int c = 0; c < 9; ++c) {
            virial_[c] += 2.0 * prefactor * virials[9 * x + c];
        }
    }
    for (int a = 0; a < 3; ++a) {
        virial_[4 * a] += energy_;
    }
}

CoulombSum CoulombMesh::gather(const double *mesh) const {
    CoulombOptions options = options_;
    options.atom_virials = false;
    CoulombSum result = empty_sum(charges_.size(), options);
    result.energy = energy_;
    std::copy(virial_, virial_ + 9, result.virial);
    dispatch(order_, [&]<int Order> { gather_order<Order>(mesh, result); });
    add_self_and_background(charges_.size(), charges_.data(), sigmas_.data(),
                            make_reciprocal(cell_).volume, options, result);
    return result;
}

template <int Order>
void CoulombMesh::gather_order(const double *mesh, CoulombSum &result) const {
    const Reciprocal reciprocal = make_reciprocal(cell_);
    const double scale = 4.0 * kPi * kCoulomb / reciprocal.volume;
    const int nx = points_[0], ny = points_[1], nz = points_[2];
    const auto count = static_cast<std::int64_t>(charges_.size());
#pragma omp parallel for num_threads(options_.threads) schedule(static)
    for (std::int64_t at = 0; at < count; ++at) {
        const std::size_t i = bins_[at];  // neighbours on the mesh follow each other
        const double *w = &weights_[3 * i * Order], *d = &slopes_[3 * i * Order];
        const double *own = mesh + groups_.member[i] * nx * ny * nz;
        const int bz = base_[3 * i + 2];
        double value = 0.0, gradient[3] = {};
        int x = base_[3 * i];
        for (int cx = 0; cx < Order; ++cx) {
            int y = base_[3 * i + 1];
            double along = 0.0, along_y = 0.0, along_z = 0.0;
            for (int cy = 0; cy < Order; ++cy) {
                const double *row = own + (static_cast<std::size_t>(x) * ny + y) * nz;
                const double *local = row + bz;
                double wrapped[Order] = {};
                if (bz + Order > nz) {
                    for (int cz = 0; cz < Order; ++cz) {
                        wrapped[cz] = row[(bz + cz) % nz];
                    }
                    local = wrapped;
                }
                double sum = 0.0, slope = 0.0;
                for (int cz = 0; cz < Order; ++cz) {
                    sum += w[2 * Order + cz] * local[cz];
                    slope += d[2 * Order + cz] * local[cz];
                }
                along += w[Order + cy] * sum;
                along_y += d[Order + cy] * sum;
                along_z += w[Order + cy] * slope;
                y = y + 1 == ny ? 0 : y + 1;
            }
            value += w[cx] * along;
            gradient[0] += d[cx] * along;
            gradient[1] += w[cx] * along_y;
            gradient[2] += w[cx] * along_z;
            x = x + 1 == nx ? 0 : x + 1;
        }
        result.potentials[i] = scale * value + self_[groups_.member[i]] * charges_[i];
        for (int c = 0; c < 3; ++c) {
            double slope = 0.0;
            for (int a = 0; a < 3; ++a) {
                slope += reciprocal.inverse[c][a] * gradient[a];
            }
            result.forces[3 * i + c] = -scale * charges_[i] * slope;
        }
    }
}

}  // namespace equicalc
