#include "geometry.h"

#include "device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_geometry<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
