// Channel mixing of features with irregular irreps, as its operators share it.
#pragma once

#include <torch/types.h>

#include <vector>

namespace equicalc {

// One input block that flows into one output block: first columns, components, channels, first
// weight. See equicalc.nn.irreps_linear.
struct Pair {
    int64_t in, out, n_components, n_in, n_out, weight;
};

// From the table of a module; `transposed`: from outputs to inputs.
std::vector<Pair> read_pairs(const torch::Tensor &table, bool transposed);

// The matrices [n_in, n_out] of all pairs as [n_out, n_in], each at its place.
torch::Tensor transpose(const torch::Tensor &weight, const torch::Tensor &table);

// Features [n, ...] to [n, width], both contiguous. `row` [width] is added to every row of the
// result where it is defined.
torch::Tensor mixed(const torch::Tensor &x, const torch::Tensor &weight,
                    const std::vector<Pair> &pairs, const torch::Tensor &row, int64_t width);

}  // namespace equicalc
