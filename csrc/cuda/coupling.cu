#include "cuda/coupling.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_couplings<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
