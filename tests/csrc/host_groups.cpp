// The kernels for CUDA devices, compiled for the host: while they are switched on, the operators of
// csrc use them in place of those for the CPU.
//
// The lanes of a group are contexts that run one after the other from one meeting to the next, in
// turn. So lanes see what others have written only where a device promises it, memory of a group
// starts as NaN, and lanes that do not meet equally often, which would hang a device, end the
// program.
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/contraction.h"
#include "cuda/convolution.h"
#include "cuda/coupling.h"
#include "cuda/edges.h"
#include "cuda/equivariant.h"
#include "cuda/gate.h"
#include "cuda/geometry.h"
#include "cuda/graph.h"
#include "cuda/launch.h"
#include "cuda/mesh.h"
#include "cuda/mesh_waves.h"
#include "cuda/moments.h"
#include "cuda/pairs.h"
#include "cuda/radial.h"
#include "cuda/repulsion.h"
#include "cuda/tensor.h"
#include "model/recording.h"

namespace equicalc::groups {
namespace {

// Fewer lanes than a warp has: faster, and channels fill their rounds as unevenly.
constexpr int kLanes = 4;

class Team {
  public:
    // Calls body(lane) for all lanes.
    void run(const std::function<void(int)> &body) {
        body_ = &body;
        for (int lane = 0; lane < kLanes; ++lane) {
            getcontext(&lanes_[lane]);
            stacks_[lane].resize(1 << 18);
            lanes_[lane].uc_stack.ss_sp = stacks_[lane].data();
            lanes_[lane].uc_stack.ss_size = stacks_[lane].size();
            lanes_[lane].uc_link = &caller_;
            makecontext(&lanes_[lane], &Team::enter, 0);
            is_done_[lane] = false;
        }
        for (int n_done = 0; n_done == 0;) {
            for (lane_ = 0; lane_ < kLanes; ++lane_) {
                swapcontext(&caller_, &lanes_[lane_]);
                n_done += is_done_[lane_];
            }
            if (n_done != 0 && n_done != kLanes) {
                std::fprintf(stderr, "lanes of a group do not meet equally often\n");
                std::abort();
            }
        }
    }
    void meet() { swapcontext(&lanes_[lane_], &caller_); }

    static Team &current() {
        static thread_local Team team;
        return team;
    }

    double values[2][kLanes];  // of two meetings in turn: the first may still be read

  private:
    static void enter() {
        Team &team = current();
        (*team.body_)(team.lane_);
        team.is_done_[team.lane_] = true;
    }

    const std::function<void(int)> *body_ = nullptr;
    ucontext_t caller_, lanes_[kLanes];
    std::vector<char> stacks_[kLanes];
    bool is_done_[kLanes];
    int lane_ = 0;
};

// What cuda/lanes.h calls a group, as one of its lanes sees it.
struct TeamLane {
    void *memory;
    int lane;
    mutable int n_sums = 0;

    static constexpr int kWidth = kLanes;
    int index() const { return lane; }
    void meet() const { Team::current().meet(); }
    template <typename T>
    T sum(T value) const {
        double *values = Team::current().values[n_sums++ % 2];
        values[lane] = value;
        meet();
        T total = 0;
        for (int other = 0; other < kLanes; ++other) {
            total += static_cast<T>(values[other]);
        }
        return total;
    }
};

template <typename F>
void run_on_host(const F &functor, int64_t n_items, void *) {
    if constexpr (F::kWarp) {
        std::vector<double> memory(1);
        if constexpr (requires { functor.memory_bytes(); }) {
            memory.resize(functor.memory_bytes() / sizeof(double) + 1);
        }
        for (int64_t item = 0; item < n_items; ++item) {
            // NaN as float too
            std::memset(memory.data(), 0xff, memory.size() * sizeof(double));
            Team::current().run([&](int lane) { functor(item, TeamLane{memory.data(), lane}); });
        }
    } else {
        for (int64_t item = 0; item < n_items; ++item) {
            functor(item, Lane{nullptr});
        }
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
    add_edges<OnHost>();
    add_equivariant_convolutions<OnHost>();
    add_gates<OnHost>();
    add_geometry<OnHost>();
    add_graphs<OnHost>();
    add_meshes<OnHost>();
    add_mesh_waves<OnHost>();
    add_moments<OnHost>();
    add_pairs<OnHost>();
    add_radial_functions<OnHost>();
    add_repulsions<OnHost>();
    add_tensor_convolutions<OnHost, float>();
    add_tensor_convolutions<OnHost, double>();
    return true;
}();

// Repeats by doing all again: what is recorded for a device must not depend on that.
struct Again : Recording {
    std::function<void()> work;

    explicit Again(std::function<void()> what) : work(std::move(what)) {}
    void repeat() override { work(); }
};

std::shared_ptr<Recording> record_on_host(int, const std::shared_ptr<Recording> &,
                                          const std::function<void()> &work) {
    work();
    return std::make_shared<Again>(work);
}

}  // namespace
}  // namespace equicalc::groups

extern "C" void use_host_groups(int wanted) {
    equicalc::groups::Available::on_host = wanted != 0;
    equicalc::Recorder::record = wanted != 0 ? &equicalc::groups::record_on_host : nullptr;
}
