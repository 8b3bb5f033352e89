#include "coupling.h"

#include "device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_couplings<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
