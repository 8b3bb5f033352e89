#include "cuda/gate.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_gates<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
