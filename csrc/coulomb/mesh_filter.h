// The sum over waves on a mesh: from the spectra of the charges to those of the potentials.
#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <vector>

#include "coulomb/ewald.h"
#include "coulomb/waves.h"

namespace equicalc {

// From the values of the cardinal B-spline of the order below to those of `order`.
inline void raise_spline(double t, int order, double *values) {
    const double scale = 1.0 / (order - 1);
    values[order - 1] = scale * (1.0 - t) * values[order - 2];
    for (int j = order - 2; j > 0; --j) {
        values[j] = scale * ((t + j) * values[j] + (order - t - j) * values[j - 1]);
    }
    values[0] *= scale * t;
}

// Values of the cardinal B-spline of `order` at t, t + 1, ... for 0 <= t < 1 (values[0..order)).
inline void spline_values(double t, int order, double *values) {
    values[0] = t;
    values[1] = 1.0 - t;
    for (int k = 3; k <= order; ++k) {
        raise_spline(t, k, values);
    }
}

// The window of the spline U(h) = sinc^p(h / n) along one direction, and what folds onto it from
// the images m of the mesh: U^2 / (sum_m U^2)^2 and U^2 / sum_m U^2. The sum over m is the Fourier
// series of the spline of twice the order at the integers.
void make_window(int n, int order, std::vector<double> &influence, std::vector<double> &kept);

// Energy (eV) and virial [3][3] of the sum over waves: prefactor 2 pi k_e / V times its energy, and
// from that and the moments 11, 22, 33, 23, 13, 12 of h over its stress (7 numbers).
void add_moments(const double *moments, const Reciprocal &reciprocal, double &energy,
                 double *virial);

// Tables of one mesh, or of some rows of its spectrum (those of the second index), made once for a
// cell; formulas in mesh.h. Real is the type of the spectra.
template <class Real>
class MeshFilter {
  public:
    // `sigmas`: the different widths, each with a mesh of its own. `rows`: from the first up to the
    // last.
    MeshFilter(const double *cell, const int *points, int order, std::vector<double> sigmas,
               const CoulombOptions &options, std::array<int, 2> rows);

    // Another cell of the same number of points.
    void set_cell(const double *cell);

    std::size_t points_of_spectrum() const;  // of one width, [n0][rows][n2 / 2 + 1]

    // Spectra of the charges [widths][n0][rows][n2 / 2 + 1] -> spectra of the potentials, in place.
    // `sums` gets the part of these rows in the numbers that `complete` needs.
    void apply(std::complex<Real> *spectra, std::vector<double> &sums);

    // With the sums over all rows: energy and virial, what is missing of the interaction of charges
    // with themselves included. `squares`: sum of q^2 of each width.
    void complete(const std::vector<double> &sums, const std::vector<double> &squares,
                  double &energy, double *virial);

    // For one width, and two axes a, b: spectrum of the charges -> that of the mesh on which a
    // charge finds its share of the virial, the part of it that goes with k_a k_b.
    void stress(const std::complex<Real> *charges, int a, int b, std::complex<Real> *out) const;

    // For one width, and an axis a: spectrum of the charges -> that of the source moments along it,
    // sum_i (r_i - r)_a q_i G(r - r_i): the Fourier transform of r G(r) is i dG/dk.
    void source_moment(const std::complex<Real> *charges, int a, std::complex<Real> *out) const;

    // After `complete`: virial [3][3] of what a charge of 1 e misses of its own.
    const double *self_virial(std::size_t width) const { return selves_[width].virial; }
    // Potential per charge which makes up for what a charge of this width misses of its own.
    double self_potential(std::size_t width) const { return selves_[width].potential; }

  private:
    struct Self {
        double potential = 0.0, virial[9] = {};  // the virial for a charge of 1 e
    };
    struct RowSums {
        double energy = 0.0, stress = 0.0, first = 0.0, second = 0.0;  // moments of h3
    };

    void fill_plane(int x, std::vector<Self> &selves);
    RowSums one_width(std::complex<Real> *row, std::size_t at) const;
    RowSums several_widths(std::complex<Real> *row, std::size_t at) const;
    void add_row(int x, int y, const RowSums &sums, double *moments) const;

    int points_[3], order_, threads_, first_row_, rows_;
    Reciprocal reciprocal_;
    CoulombOptions options_;
    std::vector<double> sigmas_;
    std::vector<double> influence_[3], kept_[3];
    // [n0][rows][n2 / 2 + 1] factor of the spectrum, and of |S|^2 in the stress. For one width they
    // contain exp(-sigma^2 k^2), for several widths that stands in `damping_`.
    std::vector<Real> value_, slope_, damping_;
    std::vector<std::vector<Self>> planes_;  // [n0][widths] parts of these rows ...
    std::vector<Self> selves_;               // ... and the sum over all
    std::vector<double> moments_;            // [n0][7]
};

}  // namespace equicalc
