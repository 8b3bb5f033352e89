#include "cuda/pairs.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_pairs<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
