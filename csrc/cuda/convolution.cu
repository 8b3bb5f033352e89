#include "cuda/convolution.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_outer_sums<OnCuda>();
    add_scalar_convolutions<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
