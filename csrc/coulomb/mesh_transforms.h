// Discrete Fourier transforms of torch, of a mesh that ranks share.
//
// On CPUs these make their results, and most of what lies between, in new memory at every call,
// those with a tensor for the result too.
#pragma once

#include <array>
#include <complex>

#include <torch/types.h>

namespace equicalc {

// Of a mesh, some planes of the first direction [planes][n1][n2] and some rows of the second one of
// its spectrum [n0][rows][n2 / 2 + 1].
template <class Real>
class MeshTransforms {
  public:
    MeshTransforms(const std::array<int, 3> &points, int planes, int rows)
        : points_(points), planes_(planes), rows_(rows) {}

    // Along the last two directions, [planes][n1][n2] <-> [planes][n1][n2 / 2 + 1], without
    // normalisation.
    void planes_forward(Real *mesh, std::complex<Real> *spectra) const;
    void planes_backward(std::complex<Real> *spectra, Real *mesh) const;
    // Along the first direction, in place.
    void rows_forward(std::complex<Real> *spectrum) const;
    void rows_backward(std::complex<Real> *spectrum) const;

  private:
    torch::Tensor mesh(Real *numbers) const;
    torch::Tensor spectrum(std::complex<Real> *numbers, int first, int second) const;

    std::array<int, 3> points_;
    int planes_, rows_;
};

}  // namespace equicalc
