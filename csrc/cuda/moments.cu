#include "cuda/moments.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_moments<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
