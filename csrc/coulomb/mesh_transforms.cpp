#include "coulomb/mesh_transforms.h"

namespace equicalc {
namespace {

constexpr int64_t kInPlane[] = {1, 2};

}  // namespace

template <class Real>
torch::Tensor MeshTransforms<Real>::mesh(Real *numbers) const {
    return torch::from_blob(numbers, {planes_, points_[1], points_[2]},
                            c10::CppTypeToScalarType<Real>::value);
}

template <class Real>
torch::Tensor MeshTransforms<Real>::spectrum(std::complex<Real> *numbers, int first,
                                             int second) const {
    return torch::from_blob(numbers, {first, second, points_[2] / 2 + 1},
                            c10::toComplexType(c10::CppTypeToScalarType<Real>::value));
}

template <class Real>
void MeshTransforms<Real>::planes_forward(Real *values, std::complex<Real> *spectra) const {
    if (planes_ > 0) {
        const c10::InferenceMode guard;
        torch::Tensor result = spectrum(spectra, planes_, points_[1]);
        at::fft_rfftn_out(result, mesh(values), std::nullopt, kInPlane);
    }
}

template <class Real>
void MeshTransforms<Real>::planes_backward(std::complex<Real> *spectra, Real *values) const {
    if (planes_ > 0) {
        const c10::InferenceMode guard;
        torch::Tensor result = mesh(values);
        const int64_t points[] = {points_[1], points_[2]};
        at::fft_irfftn_out(result, spectrum(spectra, planes_, points_[1]), at::IntArrayRef(points),
                           kInPlane, "forward");
    }
}

template <class Real>
void MeshTransforms<Real>::rows_forward(std::complex<Real> *numbers) const {
    if (rows_ > 0) {
        const c10::InferenceMode guard;
        const torch::Tensor rows = spectrum(numbers, points_[0], rows_);
        rows.copy_(at::fft_fft(rows, std::nullopt, 0));
    }
}

template <class Real>
void MeshTransforms<Real>::rows_backward(std::complex<Real> *numbers) const {
    if (rows_ > 0) {
        const c10::InferenceMode guard;
        const torch::Tensor rows = spectrum(numbers, points_[0], rows_);
        rows.copy_(at::fft_ifft(rows, std::nullopt, 0, "forward"));
    }
}

template class MeshTransforms<float>;
template class MeshTransforms<double>;

}  // namespace equicalc
