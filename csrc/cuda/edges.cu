#include "edges.h"

#include "device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_edges<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
