#include "cuda/edges.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_edges<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
