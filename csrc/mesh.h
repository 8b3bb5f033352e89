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
#include "waves.h"

namespace equicalc {

constexpr int kMaxSplineOrder = 8;

class CoulombMesh {
  public:
    // `points` along the three vectors (rows) of `cell`; `order` nodes of the spline per direction.
    // Throws std::invalid_argument when the order is not offered or a direction has fewer points.
    CoulombMesh(const double *cell, const int *points, int order, const CoulombOptions &options);

    // The charges of the next three calls; spline weights are kept.
    void set_charges(const Charges &atoms);

    std::size_t groups() const { return groups_.size(); }  // different widths
    std::size_t size() const;           // points of all meshes [groups][n0][n1][n2]
    std::size_t spectrum_size() const;  // of the half spectra [groups][n0][n1][n2 / 2 + 1]

    // Charges on the meshes.
    void spread(double *mesh) const;

    // Spectra of the charges (sums without normalisation) -> spectra of the potentials, in place.
    void convolve(std::complex<double> *spectrum);

    // From the meshes of the potentials (inverse transforms without normalisation) to the results;
    // no virials per atom.
    CoulombSum gather(const double *mesh) const;

  private:
    void sort_into_bins();
    template <int Order>
    void spread_order(double *mesh) const;
    template <int Order>
    void gather_order(const double *mesh, CoulombSum &result) const;

    double cell_[9];
    int points_[3];
    int order_;
    CoulombOptions options_;
    std::vector<double> charges_, sigmas_;
    WidthGroups groups_;
    std::vector<int> base_;               // [n][3] first mesh point of an atom's spline
    std::vector<double> weights_;         // [n][3][order] spline at its mesh points
    std::vector<double> slopes_;          // [n][3][order] and its derivative
    std::vector<std::size_t> bins_;       // atoms sorted by width and base_[0] ...
    std::vector<std::size_t> bin_start_;  // ... [groups n0 + 1]
    double energy_ = 0.0;
    std::vector<double>
        self_;  // [groups] potential per charge which makes up for its own on the mesh
    double virial_[9] = {};
};

}  // namespace equicalc
