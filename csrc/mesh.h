// Sum over waves of Gaussian charges on a mesh: the three steps around the two Fourier transforms.
//
// A particle-mesh Ewald sum with B-splines (Essmann et al., J. Chem. Phys. 103, 8577 (1995)),
// forces by differentiating the splines, and the influence function that is best for the energy
// (Hockney and Eastwood; Ballenegger, Cerda and Holm, J. Chem. Theory Comput. 8, 936 (2012)):
//   G(k) = w(k) prod_a sinc^2p(h_a / n_a) / (sum_m sinc^2p(h_a / n_a + m))^2
// with the weight w(k) of the exact sum, which this one tends to as the mesh is refined. Energy,
// forces, potentials and virial are exact derivatives of one another at a fixed number of points.
//
// A charge on the mesh feels itself by less than it should; what is missing on average over its
// places, sum_k w(k) (1 - U^2 / sum_m U^2) with the window U of the spline, is added (the largest
// part of the error of the energy; Ballenegger, Cerda and Holm, Comput. Phys. Commun. 182, 1919
// (2011)).
//
// The charges of each width have a mesh of their own: their spectra carry exp(-sigma^2 k^2 / 2)
// into the sum S(k) and take it from there again. Equal widths cost one mesh.
#pragma once

#include <complex>
#include <cstddef>
#include <vector>

#include "ewald.h"
#include "mesh_filter.h"
#include "waves.h"

namespace equicalc {

constexpr int kMaxSplineOrder = 8;

// Real is the type of meshes and spectra; results are sums in double.
template <class Real>
class CoulombMesh {
  public:
    // `points` along the three vectors (rows) of `cell`; `order` nodes of the spline per direction;
    // `sigmas` the different widths, ascending. Throws std::invalid_argument when the order is not
    // offered or a direction has fewer points.
    CoulombMesh(const double *cell, const int *points, int order, std::vector<double> sigmas,
                const CoulombOptions &options);

    // Another cell of the same number of points, before the next set_charges.
    void set_cell(const double *cell);

    // The charges of the next calls, with widths of the constructor.
    void set_charges(const Charges &atoms);

    std::size_t size() const;           // points of all meshes [widths][n0][n1][n2]
    std::size_t spectrum_size() const;  // of the half spectra [widths][n0][n1][n2 / 2 + 1]

    // Charges on the meshes.
    void spread(Real *mesh);

    // Spectra of the charges (sums without normalisation) -> spectra of the potentials, in place.
    void convolve(std::complex<Real> *spectra);

    // From the meshes of the potentials (inverse transforms without normalisation) to the results;
    // no virials per atom.
    CoulombSum gather(const Real *mesh) const;
    // The same where `result` keeps its memory, and forces and potentials of the atoms from `first`
    // up to `last` alone; those of others are of no meaning.
    void gather(const Real *mesh, std::size_t first, std::size_t last, CoulombSum &result) const;

    // Virials of these atoms [n][3][3] in `result`, for charges of one width: first their parts
    // that need no other mesh, then six times, for axes a and b, those from the inverse transform
    // of stress_spectrum. They sum to the virial but for that of the background.
    void begin_atom_virials(std::size_t first, std::size_t last, CoulombSum &result) const;
    void stress_spectrum(const std::complex<Real> *charges, int a, int b,
                         std::complex<Real> *out) const {
        filter_.stress(charges, a, b, out);
    }
    void gather_atom_virials(const Real *mesh, int a, int b, std::size_t first, std::size_t last,
                             CoulombSum &result) const;

  private:
    template <int Order>
    void make_splines(const double *positions);
    void sort_into_bins();

    int points_[3];
    int order_;
    Reciprocal reciprocal_;
    CoulombOptions options_;
    std::vector<double> widths_;
    MeshFilter<Real> filter_;
    std::vector<double> charges_, sigmas_;
    WidthGroups groups_;
    std::vector<int> base_;               // [n][3] first mesh point of an atom's spline
    std::vector<Real> weights_;           // [n][3][8] spline at its mesh points, then zeros
    std::vector<Real> slopes_;            // [n][3][8] and its derivative
    std::vector<std::size_t> bins_;       // atoms sorted by width and base_[0] ...
    std::vector<std::size_t> bin_start_;  // ... [widths n0 + 1]
    std::vector<Real> planes_;            // one of each thread while spreading
    double energy_ = 0.0;
    double virial_[9] = {};
};

}  // namespace equicalc
