#include "cuda/tensor.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_tensor_convolutions<OnCuda, double>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
