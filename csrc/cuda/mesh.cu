#include "cuda/mesh.h"

#include "cuda/device.cuh"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_meshes<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
