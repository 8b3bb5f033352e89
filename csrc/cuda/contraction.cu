#include "cuda/contraction.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_contractions<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
