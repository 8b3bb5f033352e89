#include "cuda/radial.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_radial_functions<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
