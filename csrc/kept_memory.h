// Memory that is kept from step to step, so that a long run allocates nothing of the size of its
// data once the sizes have settled.
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <functional>
#include <numeric>

namespace equicalc {

// Room for a little more than was asked for: sizes go up and down by a few per cent.
inline int64_t with_room(int64_t count) { return count + count / 16; }

class KeptTensor {
  public:
    // A contiguous tensor on the CPU, without values. The memory of the last one is used again,
    // unless it is too small or somebody still holds it.
    torch::Tensor get(c10::IntArrayRef sizes, torch::ScalarType type) {
        const int64_t count =
            std::accumulate(sizes.begin(), sizes.end(), int64_t(1), std::multiplies<>());
        const bool fits = memory_.defined() && memory_.scalar_type() == type &&
                          memory_.numel() >= count && memory_.storage().use_count() == 1;
        if (!fits) {
            memory_ = torch::Tensor();  // first, so that old and new are never there together
            memory_ = torch::empty({with_room(count)}, type);
        }
        return memory_.narrow(0, 0, count).view(sizes);
    }

  private:
    torch::Tensor memory_;
};

}  // namespace equicalc
