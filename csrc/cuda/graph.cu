#include "graph.h"

#include "device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_graphs<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
