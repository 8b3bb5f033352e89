#include "contraction.h"

#include "device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_contractions<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
