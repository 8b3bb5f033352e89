#include "cuda/geometry.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_geometry<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
