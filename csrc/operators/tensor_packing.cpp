#include "operators/tensor_packing.h"

#include <algorithm>
#include <cstring>

namespace equicalc {
namespace {

using kernels::kBlock;

// n of the channels of a block; whole blocks without a call.
template <bool kPack, typename T>
void move_channels(T *row, T *packed, int64_t n) {
    if (n == kBlock) {
        std::memcpy(kPack ? packed : row, kPack ? row : packed, kBlock * sizeof(T));
    } else if (kPack) {
        std::copy_n(row, n, packed);
        std::fill_n(packed + n, kBlock - n, T(0));
    } else {
        std::copy_n(packed, n, row);
    }
}

}  // namespace

template <bool kPack, typename T>
void move_rows(const std::vector<FeatureBlock> &blocks, T *rows, int64_t width, T *packed,
               int64_t n_packed, Order order, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
        for (size_t index = 0; index < blocks.size(); ++index) {
            const FeatureBlock &b = blocks[index];
            const auto target = packed_block(packed, blocks, index, n_packed, order);
            for (int64_t k = 0; k < b.channels; k += kBlock) {
                T *row = rows + i * width + b.start + k;
                T *other = target.data + k / kBlock * target.block + i * target.atom;
                const int64_t n = std::min(kBlock, b.channels - k);
                for (int64_t m = 0; m < b.n_components; ++m) {
                    move_channels<kPack>(row + m * b.component, other + m * kBlock, n);
                }
            }
        }
    }
}

template void move_rows<false>(const std::vector<FeatureBlock> &, float *, int64_t, float *,
                               int64_t, Order, int64_t, int64_t);
template void move_rows<false>(const std::vector<FeatureBlock> &, double *, int64_t, double *,
                               int64_t, Order, int64_t, int64_t);

torch::Tensor pack(const torch::Tensor &features, const std::vector<FeatureBlock> &blocks,
                   Order order) {
    const int64_t n = features.size(0), width = features.size(1);
    torch::Tensor packed = torch::empty({n * packed_size(blocks)}, features.options());
    EQUICALC_DISPATCH(features.scalar_type(), "pack", [&] {
        at::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
            move_rows<true>(blocks, features.data_ptr<scalar_t>(), width,
                            packed.data_ptr<scalar_t>(), n, order, begin, end);
        });
    });
    return packed;
}

}  // namespace equicalc
