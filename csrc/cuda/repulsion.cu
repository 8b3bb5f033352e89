#include "cuda/repulsion.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_repulsions<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
