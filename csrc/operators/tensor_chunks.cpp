#include "operators/tensor_chunks.h"

#include <algorithm>

#include "vectors/targets.h"

namespace equicalc::kernels {
namespace {

// Arrays of this many edges fit into caches beside a table.
constexpr int64_t kEdgesOfChunk = 512;
constexpr int64_t kAtomsOfChunk = 128;

template <typename V>
void reserve(V &vector, int64_t size) {
    if (static_cast<int64_t>(vector.size()) < size) {
        vector.resize(size);
    }
}

}  // namespace

std::vector<int64_t> chunk_atoms(const int64_t *start, int64_t n_atoms) {
    std::vector<int64_t> firsts{0};
    for (int64_t i = 1; i < n_atoms; ++i) {
        if (start[i + 1] - start[firsts.back()] > kEdgesOfChunk ||
            i - firsts.back() >= kAtomsOfChunk) {
            firsts.push_back(i);
        }
    }
    if (n_atoms > 0) {
        firsts.push_back(n_atoms);
    }
    return firsts;
}

template <typename T>
EdgeChunk<T> ChunkArrays<T>::gather(const EdgeInputs<T> &in, const int64_t *start,
                                    const int64_t *order, const int64_t *other, int64_t first,
                                    int64_t last) {
    const int64_t n_edges = start[last] - start[first];
    reserve(start_, last - first + 1);
    reserve(other_, n_edges);
    reserve(row_, n_edges);
    reserve(weights_, 4 * n_edges);
    reserve(slopes_, 4 * n_edges);
    reserve(harmonics_, in.n_harmonics * n_edges);
    for (int64_t i = first; i <= last; ++i) {
        start_[i - first] = start[i] - start[first];
    }
    for (int64_t k = 0; k < n_edges; ++k) {
        const int64_t e = order ? order[start[first] + k] : start[first] + k;
        other_[k] = static_cast<int32_t>(other[e]);
        groups::spline_weights(in.knots, in.distance[e], &row_[k], &weights_[4 * k],
                               &slopes_[4 * k]);
        // a call of memmove costs more than the few numbers
        for (int64_t m = 0; m < in.n_harmonics; ++m) {
            harmonics_[k * in.n_harmonics + m] = in.harmonics[e * in.n_harmonics + m];
        }
    }
    return {last - first,   first,           start_.data(),  other_.data(),
            row_.data(),    weights_.data(), slopes_.data(), harmonics_.data(),
            in.n_harmonics, nullptr,         nullptr,        nullptr};
}

template <typename T>
void ChunkArrays<T>::prepare_rotations(EdgeChunk<T> &chunk, int64_t n_entries) {
    reserve(rotations_, chunk.start[chunk.n_atoms] * n_entries + kBlock);
    chunk.rotations = rotations_.data();
}

template <typename T>
void ChunkArrays<T>::prepare_sums(EdgeChunk<T> &chunk, int64_t n_channels) {
    const int64_t size = chunk.start[chunk.n_atoms] * (1 + chunk.n_harmonics) * simd::kMaxPart<T>;
    reserve(sums_, size);
    std::fill_n(sums_.begin(), size, T(0));
    reserve(radial_, n_channels + kBlock);
    chunk.sums = sums_.data();
    chunk.radial = radial_.data();
}

template <typename T>
T *ChunkArrays<T>::zeros(int64_t size) {
    reserve(zeros_, size);
    std::fill_n(zeros_.begin(), size, T(0));
    return zeros_.data();
}

template class ChunkArrays<float>;
template class ChunkArrays<double>;

}  // namespace equicalc::kernels
