#include "cuda/equivariant.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_equivariant_convolutions<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
