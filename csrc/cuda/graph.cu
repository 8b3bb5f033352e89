#include "cuda/graph.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_graphs<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
