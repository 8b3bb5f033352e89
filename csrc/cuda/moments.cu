#include "moments.h"

#include "device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_moments<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
