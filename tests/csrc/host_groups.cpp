// The kernels for CUDA devices, compiled for the host: while they are switched on, the operators of
// csrc use them in place of those for the CPU.
#include "cuda/contraction.h"
#include "cuda/convolution.h"
#include "cuda/coupling.h"
#include "cuda/edges.h"
#include "cuda/equivariant.h"
#include "cuda/gate.h"
#include "cuda/geometry.h"
#include "cuda/graph.h"
#include "cuda/launch.h"
#include "cuda/moments.h"
#include "cuda/radial.h"
#include "cuda/tensor.h"

#include <vector>

namespace equicalc::groups {
namespace {

template <typename F>
void run_on_host(const F &functor, int64_t n_items, void *) {
    std::vector<double> memory;
    if constexpr (requires { functor.memory_bytes(); }) {
        memory.resize(functor.memory_bytes() / sizeof(double) + 1);
    }
    for (int64_t item = 0; item < n_items; ++item) {
        functor(item, Lane{memory.data()});
    }
}

struct OnHost {
    template <typename F>
    static void add() {
        Launches<F>::on_host = &run_on_host<F>;
    }
};

const bool kAdded = [] {
    add_contractions<OnHost>();
    add_outer_sums<OnHost>();
    add_scalar_convolutions<OnHost>();
    add_couplings<OnHost>();
    add_equivariant_convolutions<OnHost>();
    add_gates<OnHost>();
    add_geometry<OnHost>();
    add_edges<OnHost>();
    add_graphs<OnHost>();
    add_moments<OnHost>();
    add_radial_functions<OnHost>();
    add_tensor_convolutions<OnHost, float>();
    add_tensor_convolutions<OnHost, double>();
    return true;
}();

}  // namespace
}  // namespace equicalc::groups

extern "C" void use_host_groups(int wanted) { equicalc::groups::Available::on_host = wanted != 0; }
