#include "cuda/mesh.h"

#include "cuda/device.cuh"
#include "cuda/mesh_waves.h"

namespace equicalc::groups {
namespace {

const bool kAdded = [] {
    add_meshes<OnCuda>();
    add_mesh_waves<OnCuda>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups
