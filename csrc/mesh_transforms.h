// Discrete Fourier transforms of a mesh in memory that is kept.
//
// Transforms of torch make their results, and most of what lies between, in new memory at every
// call on CPUs, those with a tensor for the result too. Here some lines of the mesh at a time are
// read into a small buffer, transformed there and written back.
#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <vector>

#include "line_transform.h"

namespace equicalc {

// Of a mesh, some planes of the first direction [planes][n1][n2] and some rows of the second one of
// its spectrum [n0][rows][n2 / 2 + 1].
template <class Real>
class MeshTransforms {
  public:
    MeshTransforms(const std::array<int, 3> &points, int planes, int rows, int threads);

    // Along the last two directions, [planes][n1][n2] <-> [planes][n1][n2 / 2 + 1], without
    // normalisation; the way back overwrites the spectra.
    void planes_forward(const Real *mesh, std::complex<Real> *spectra);
    void planes_backward(std::complex<Real> *spectra, Real *mesh);
    // Along the first direction, in place.
    void rows_forward(std::complex<Real> *spectrum) { along_x(spectrum, false); }
    void rows_backward(std::complex<Real> *spectrum) { along_x(spectrum, true); }

    std::size_t memory_bytes() const { return sizeof(Real) * buffers_.capacity(); }

  private:
    struct Buffers {
        Real *values, *other;
    };
    Buffers buffers();
    void along_x(std::complex<Real> *spectrum, bool backward);
    void along_y(std::complex<Real> *plane, bool backward, const Buffers &buffers) const;

    std::array<int, 3> points_;
    int planes_, rows_, threads_;
    LineTransform<Real> x_, y_, z_;
    std::size_t buffer_size_;
    std::vector<Real> buffers_;  // two of each thread
};

}  // namespace equicalc
