// Weights and tables in the layouts of the kernels.
#pragma once

#include <torch/types.h>

#include <vector>

#include "direct/buffer.h"
#include "direct/kernels.h"
#include "direct/parts.h"

namespace equicalc::direct {

inline int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

template <typename T>
int64_t padded(int64_t channels) {
    return round_up(channels, kBlock<T>);
}

// Owns what a Matrix points to.
template <typename T>
class PackedMatrix {
  public:
    PackedMatrix() = default;
    // float64 [k, n]; columns are padded with zeros.
    explicit PackedMatrix(const torch::Tensor &values);
    Matrix<T> view() const { return {panels_.data(), k_, n_}; }

  private:
    Buffer<T> panels_;
    int64_t k_ = 0, n_ = 0;
};

// Values of a tensor in the type of the kernels.
template <typename T>
std::vector<T> values_of(const torch::Tensor &tensor);

// [.., width] -> [.., padded width], zeros at the end.
torch::Tensor pad_last(const torch::Tensor &tensor, int64_t width);
// The same for a first axis of several groups of `group` numbers, each padded.
torch::Tensor pad_groups(const torch::Tensor &matrix, int64_t group, int64_t padded_group);

// The radial functions of equicalc/nn/radial.py times a factor, as polynomials between knots.
template <typename T>
class PackedRadial {
  public:
    PackedRadial() = default;
    PackedRadial(const Parts &parts, const std::string &path, double factor);
    RadialTable<T> view() const { return {coefficients_.data(), n_intervals_, per_interval_}; }
    int64_t n_radial() const { return n_radial_; }  // padded
    int64_t n_functions() const { return n_functions_; }

  private:
    std::vector<T> coefficients_;
    int64_t n_intervals_ = 0, n_radial_ = 0, n_functions_ = 0;
    double per_interval_ = 0.0;
};

// Owns what Terms point to.
template <typename T>
struct PackedTerms {
    std::vector<int32_t> start, target, path, left, right;
    std::vector<T> coefficient;

    Terms<T> view() const {
        return {int64_t(target.size()), start.data(),      target.data(), path.data(), left.data(),
                right.data(),           coefficient.data()};
    }
};

// One product of node features (equicalc/nn/product.py) and its derivatives: `values` has rows
// (path, m3) of left x right, `by_left` and `by_right` have rows of weighted gradients x factor.
template <typename T>
struct PackedCoupling {
    PackedTerms<T> values, by_left, by_right;
    // One of the constant tables, with what they divide paths by in the weights; then nothing else
    // is used.
    FixedCoupling fixed = FixedCoupling::none;
    std::vector<T> weight;  // [n_species, n_paths, channels padded]
    int64_t n_weights = 0;  // of one species

    // Only results up to a degree; `symmetric`: both factors are the same, all goes to by_left.
    PackedCoupling(const Parts &parts, const std::string &path, int64_t up_to_degree,
                   bool symmetric);
};

// Owns what a FullConvolution points to: tables and weights of equicalc/nn/convolution.py.
template <typename T>
class PackedFullConvolution {
  public:
    PackedFullConvolution(const Parts &parts, const std::string &path, int64_t n_radial);
    FullConvolution<T> view() const;

  private:
    int64_t l_max_, n_radial_, channels_, n_paths_;
    std::vector<int32_t> row_start_, row_path_, row_out_;
    std::vector<int32_t> entry_start_, entry_in_, entry_row_, term_harmonic_, in_start_, in_entry_;
    std::vector<T> coefficient_;
    PackedMatrix<T> weights_;
};

}  // namespace equicalc::direct
