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
//
// Several ranks can share a mesh. Each knows all charges, has some planes of the mesh and some rows
// of the spectrum, and finds what its planes and rows contribute; sums over ranks make it whole.
#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <vector>

#include "coulomb/ewald.h"
#include "coulomb/mesh_filter.h"
#include "coulomb/mesh_splines.h"
#include "coulomb/waves.h"

namespace equicalc {

// Real is the type of meshes and spectra; results are sums in double.
template <class Real>
class CoulombMesh {
  public:
    // `points` along the three vectors (rows) of `cell`; `order` nodes of the spline per direction;
    // `sigmas` the different widths, ascending. Throws std::invalid_argument when the order is not
    // offered or a direction has fewer points.
    CoulombMesh(const double *cell, const int *points, int order, std::vector<double> sigmas,
                const CoulombOptions &options);
    CoulombMesh(const double *cell, const int *points, int order, std::vector<double> sigmas,
                const CoulombOptions &options, const MeshShare &share);

    // Another cell of the same number of points, before the next set_charges.
    void set_cell(const double *cell);

    // The charges of the next calls, with widths of the constructor; no widths: all have the one.
    void set_charges(const Charges &atoms);

    std::size_t size() const;           // points of all meshes [widths][planes][n1][n2]
    std::size_t memory_bytes() const;   // of what grows with the atoms
    std::size_t spectrum_size() const;  // of the half spectra [widths][n0][rows][n2 / 2 + 1]

    // Charges on the meshes.
    void spread(Real *mesh);

    // Spectra of the charges (sums without normalisation) -> spectra of the potentials, in place.
    // Of a share: in between, `sums` are added up over all shares.
    void convolve(std::complex<Real> *spectra);
    void begin_convolve(std::complex<Real> *spectra) { filter_.apply(spectra, sums_); }
    std::vector<double> &sums() { return sums_; }
    void end_convolve();

    // From the meshes of the potentials (inverse transforms without normalisation) to the results;
    // no virials per atom.
    CoulombSum gather(const Real *mesh) const;
    // In two steps: what the planes of this share contribute to the potential and its slopes,
    // found [n][4]; and from the sums of these over all shares, for the atoms from `first` up to
    // `last` alone, the results, of which `result` keeps the memory.
    void begin_gather(const Real *mesh, double *found) const;
    void end_gather(const double *found, std::size_t first, std::size_t last,
                    CoulombSum &result) const;

    // Virials of these atoms [last - first][3][3] in `result`, for charges of one width, after
    // end_gather. Six times, for axes a and b, the mesh comes from the inverse transform of
    // stress_spectrum, and this share's part of an atom's goes to found [n][6]; kVirialAxes has the
    // order. They sum to the virial but for that of the background.
    void stress_spectrum(const std::complex<Real> *charges, int a, int b,
                         std::complex<Real> *out) const {
        filter_.stress(charges, a, b, out);
    }
    void end_virials(const double *found, std::size_t first, std::size_t last,
                     CoulombSum &result) const;

    // Source moments of these atoms, likewise: three times, found [n][3].
    void source_moment_spectrum(const std::complex<Real> *charges, int a,
                                std::complex<Real> *out) const {
        filter_.source_moment(charges, a, out);
    }
    void end_source_moments(const double *found, std::size_t first, std::size_t last,
                            CoulombSum &result) const;

    // This share's part of the mesh at the atoms, into one column of found [n][width].
    void gather_column(const Real *mesh, std::size_t column, std::size_t width,
                       double *found) const;

  private:
    double self_potential(std::size_t i) const;
    double background_potential(std::size_t i) const;
    std::size_t group_of(std::size_t i) const {
        return groups_.member.empty() ? 0 : groups_.member[i];
    }
    template <class Take>
    void read(const Real *mesh, const Take &take) const;

    int points_[3];
    int order_;
    MeshShare share_;
    Reciprocal reciprocal_;
    CoulombOptions options_;
    std::vector<double> widths_;
    MeshSplines<Real> splines_;
    MeshFilter<Real> filter_;
    std::vector<double> charges_;
    WidthGroups groups_;                 // no members for one width
    double total_ = 0.0, moment_ = 0.0;  // sums of q and of q sigma^2
    std::vector<double> squares_;        // [widths] sums of q^2
    std::vector<double> sums_;
    std::vector<Real> planes_;  // one of each thread while spreading
    double energy_ = 0.0;
    double virial_[9] = {};
};

constexpr std::array<std::array<int, 2>, 6> kVirialAxes{
    {{0, 0}, {1, 1}, {2, 2}, {1, 2}, {0, 2}, {0, 1}}};

}  // namespace equicalc
