#include "mesh_transforms.h"

#include <omp.h>

#include <algorithm>

namespace equicalc {
namespace {

// Numbers along a line that are `stride` apart, of up to kLanes lines beside each other, to and
// from a buffer.
template <class Real>
void read_columns(const std::complex<Real> *from, std::ptrdiff_t stride, int n, int count,
                  Real *buffer) {
    constexpr int kLanes = LineTransform<Real>::kLanes;
    Real *re = buffer, *im = buffer + static_cast<std::ptrdiff_t>(n) * kLanes;
    for (int j = 0; j < n; ++j, from += stride, re += kLanes, im += kLanes) {
        const auto *numbers = reinterpret_cast<const Real *>(from);
        for (int lane = 0; lane < count; ++lane) {
            re[lane] = numbers[2 * lane];
            im[lane] = numbers[2 * lane + 1];
        }
    }
}

template <class Real>
void write_columns(const Real *buffer, std::ptrdiff_t stride, int n, int count,
                   std::complex<Real> *to) {
    constexpr int kLanes = LineTransform<Real>::kLanes;
    const Real *re = buffer, *im = buffer + static_cast<std::ptrdiff_t>(n) * kLanes;
    for (int j = 0; j < n; ++j, to += stride, re += kLanes, im += kLanes) {
        auto *numbers = reinterpret_cast<Real *>(to);
        for (int lane = 0; lane < count; ++lane) {
            numbers[2 * lane] = re[lane];
            numbers[2 * lane + 1] = im[lane];
        }
    }
}

// Two real rows are one complex line: the even ones its real, the odd ones its imaginary part.
// `count` rows from `from` on; missing ones are zero.
template <class Real>
void read_rows(const Real *from, int n, int count, Real *buffer) {
    constexpr int kLanes = LineTransform<Real>::kLanes;
    for (int row = 0; row < 2 * kLanes; ++row) {
        Real *target =
            buffer + (row % 2 == 0 ? 0 : static_cast<std::ptrdiff_t>(n) * kLanes) + row / 2;
        const Real *source = from + static_cast<std::ptrdiff_t>(row) * n;
        for (int z = 0; z < n; ++z) {
            target[z * kLanes] = row < count ? source[z] : Real(0);
        }
    }
}

template <class Real>
void write_rows(const Real *buffer, int n, int count, Real *to) {
    constexpr int kLanes = LineTransform<Real>::kLanes;
    for (int row = 0; row < count; ++row, to += n) {
        const Real *source =
            buffer + (row % 2 == 0 ? 0 : static_cast<std::ptrdiff_t>(n) * kLanes) + row / 2;
        for (int z = 0; z < n; ++z) {
            to[z] = source[z * kLanes];
        }
    }
}

// From the transform Z of such lines to the half spectra of both rows, A_k = (Z_k + Z*_-k) / 2 and
// B_k = (Z_k - Z*_-k) / 2i.
template <class Real>
void write_spectra(const Real *buffer, int n, int count, std::complex<Real> *to) {
    constexpr int kLanes = LineTransform<Real>::kLanes;
    const int half = n / 2 + 1;
    const Real *im = buffer + static_cast<std::ptrdiff_t>(n) * kLanes;
    for (int row = 0; row < count; ++row, to += half) {
        const int lane = row / 2;
        for (int k = 0; k < half; ++k) {
            const int here = k * kLanes + lane, there = (k == 0 ? 0 : n - k) * kLanes + lane;
            to[k] = row % 2 == 0 ? std::complex<Real>(Real(0.5) * (buffer[here] + buffer[there]),
                                                      Real(0.5) * (im[here] - im[there]))
                                 : std::complex<Real>(Real(0.5) * (im[here] + im[there]),
                                                      Real(0.5) * (buffer[there] - buffer[here]));
        }
    }
}

// And back: Z_k = A_k + i B_k, Z_-k = A*_k + i B*_k. Numbers that are their own conjugates count as
// real.
template <class Real>
void read_spectra(const std::complex<Real> *from, int n, int count, Real *buffer) {
    constexpr int kLanes = LineTransform<Real>::kLanes;
    const int half = n / 2 + 1;
    Real *im = buffer + static_cast<std::ptrdiff_t>(n) * kLanes;
    for (int lane = 0; lane < kLanes; ++lane) {
        const std::complex<Real> *a = from + static_cast<std::ptrdiff_t>(2 * lane) * half;
        const std::complex<Real> *b = a + half;
        const bool has_a = 2 * lane < count, has_b = 2 * lane + 1 < count;
        for (int k = 0; k < half; ++k) {
            const int there = (n - k) % n;
            const Real own = k == there ? Real(0) : Real(1);
            const Real a_re = has_a ? a[k].real() : Real(0), b_re = has_b ? b[k].real() : Real(0);
            const Real a_im = has_a ? own * a[k].imag() : Real(0);
            const Real b_im = has_b ? own * b[k].imag() : Real(0);
            buffer[there * kLanes + lane] = a_re + b_im;
            im[there * kLanes + lane] = b_re - a_im;
            buffer[k * kLanes + lane] = a_re - b_im;
            im[k * kLanes + lane] = b_re + a_im;
        }
    }
}

}  // namespace

template <class Real>
MeshTransforms<Real>::MeshTransforms(const std::array<int, 3> &points, int planes, int rows,
                                     int threads)
    : points_(points),
      planes_(planes),
      rows_(rows),
      threads_(std::max(1, threads)),
      x_(points[0]),
      y_(points[1]),
      z_(points[2]),
      buffer_size_(std::max({x_.buffer_size(), y_.buffer_size(), z_.buffer_size()})),
      buffers_(2 * buffer_size_ * threads_) {}

template <class Real>
typename MeshTransforms<Real>::Buffers MeshTransforms<Real>::buffers() {
    Real *first = buffers_.data() + 2 * buffer_size_ * omp_get_thread_num();
    return {first, first + buffer_size_};
}

template <class Real>
void MeshTransforms<Real>::along_y(std::complex<Real> *plane, bool backward,
                                   const Buffers &buffers) const {
    constexpr int kLanes = LineTransform<Real>::kLanes;
    const int half = points_[2] / 2 + 1;
    for (int z = 0; z < half; z += kLanes) {
        const int count = std::min(kLanes, half - z);
        read_columns(plane + z, half, points_[1], count, buffers.values);
        const Real *found = y_.run(buffers.values, buffers.other, backward);
        write_columns(found, half, points_[1], count, plane + z);
    }
}

template <class Real>
void MeshTransforms<Real>::planes_forward(const Real *mesh, std::complex<Real> *spectra) {
    constexpr int kRows = 2 * LineTransform<Real>::kLanes;
    const std::ptrdiff_t ny = points_[1], nz = points_[2], half = nz / 2 + 1;
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (int x = 0; x < planes_; ++x) {
        const Buffers mine = buffers();
        for (int y = 0; y < points_[1]; y += kRows) {
            const int count = std::min(kRows, points_[1] - y);
            read_rows(mesh + (x * ny + y) * nz, points_[2], count, mine.values);
            const Real *found = z_.run(mine.values, mine.other, false);
            write_spectra(found, points_[2], count, spectra + (x * ny + y) * half);
        }
        along_y(spectra + x * ny * half, false, mine);
    }
}

template <class Real>
void MeshTransforms<Real>::planes_backward(std::complex<Real> *spectra, Real *mesh) {
    constexpr int kRows = 2 * LineTransform<Real>::kLanes;
    const std::ptrdiff_t ny = points_[1], nz = points_[2], half = nz / 2 + 1;
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (int x = 0; x < planes_; ++x) {
        const Buffers mine = buffers();
        along_y(spectra + x * ny * half, true, mine);
        for (int y = 0; y < points_[1]; y += kRows) {
            const int count = std::min(kRows, points_[1] - y);
            read_spectra(spectra + (x * ny + y) * half, points_[2], count, mine.values);
            const Real *found = z_.run(mine.values, mine.other, true);
            write_rows(found, points_[2], count, mesh + (x * ny + y) * nz);
        }
    }
}

template <class Real>
void MeshTransforms<Real>::along_x(std::complex<Real> *spectrum, bool backward) {
    constexpr int kLanes = LineTransform<Real>::kLanes;
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(rows_) * (points_[2] / 2 + 1);
    const auto blocks = (stride + kLanes - 1) / kLanes;
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (std::ptrdiff_t block = 0; block < blocks; ++block) {
        const Buffers mine = buffers();
        const std::ptrdiff_t first = block * kLanes;
        const int count = static_cast<int>(std::min<std::ptrdiff_t>(kLanes, stride - first));
        read_columns(spectrum + first, stride, points_[0], count, mine.values);
        const Real *found = x_.run(mine.values, mine.other, backward);
        write_columns(found, stride, points_[0], count, spectrum + first);
    }
}

template class MeshTransforms<float>;
template class MeshTransforms<double>;

}  // namespace equicalc
