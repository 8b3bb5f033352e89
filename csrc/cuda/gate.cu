#include "gate.h"

#include "device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_gates<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
