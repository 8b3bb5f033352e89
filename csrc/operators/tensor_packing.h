// Features of all channels of an atom, [.., components, channels], as blocks of kBlock channels,
// which the kernels of tensor_kernels.h read in whole vectors.
#pragma once

#include <cstdint>
#include <vector>

#include "operators/fused_ops.h"
#include "operators/tensor_kernels.h"

namespace equicalc {

// One block of features: where it starts in a row of [n, W], and its shape.
struct FeatureBlock {
    int64_t start, channels, component, n_components, offset;

    int64_t n_blocks() const { return (channels + kernels::kBlock - 1) / kernels::kBlock; }
    int64_t size() const { return n_blocks() * n_components * kernels::kBlock; }
};

inline int64_t packed_size(const std::vector<FeatureBlock> &blocks) {
    return blocks.empty() ? 0 : blocks.back().offset + blocks.back().size();
}

// Where a block of features is in packed arrays of n atoms: each block of channels with all atoms,
// or each atom with all its numbers.
enum class Order { kBlocks, kAtoms };

template <typename T>
kernels::Packed<T> packed_block(T *packed, const std::vector<FeatureBlock> &blocks, size_t index,
                                int64_t n, Order order) {
    const FeatureBlock &b = blocks[index];
    const int64_t size = b.n_components * kernels::kBlock;
    if (order == Order::kBlocks) {
        return {packed + b.offset * n, size * n, size};
    }
    return {packed + b.offset, size, packed_size(blocks)};
}

// Copies the rows [n, width] of atoms [first, last) into packed order, or back.
template <bool kPack, typename T>
void move_rows(const std::vector<FeatureBlock> &blocks, T *rows, int64_t width, T *packed,
               int64_t n_packed, Order order, int64_t first, int64_t last);

// Rows of features [n, width] in packed order.
torch::Tensor pack(const torch::Tensor &features, const std::vector<FeatureBlock> &blocks,
                   Order order);

}  // namespace equicalc
