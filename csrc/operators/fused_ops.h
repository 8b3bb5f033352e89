// What the operators around the kernels share. Each operator is one file: equicalc::outer_sum,
// equicalc::radial_moments, equicalc::couple with first and second derivatives by everything, for
// training and evaluation; equicalc::scalar_convolution with first derivatives, for evaluation.
#pragma once

#include <ATen/Parallel.h>
#include <torch/library.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <utility>

#include "cuda/lanes.h"
#include "cuda/launch.h"

namespace equicalc {

// Atoms that one task of a thread works on.
inline constexpr int64_t kGrain = 32;

#define EQUICALC_DISPATCH(type, name, ...) AT_DISPATCH_FLOATING_TYPES(type, name, __VA_ARGS__)

// The operator `name` of a dispatch key is this function.
#define EQUICALC_REGISTER(name, function, key) \
    TORCH_LIBRARY_IMPL(equicalc, key, library) { library.impl(#name, &function); }

// The same on CPUs and devices.
#define EQUICALC_REGISTER_KERNELS(name, function) \
    EQUICALC_REGISTER(name, function, CPU)        \
    EQUICALC_REGISTER(name, function, CUDA)

// The same where gradients may be asked for, of functions that leave the autograd keys themselves.
#define EQUICALC_REGISTER_AUTOGRAD(name, function) \
    EQUICALC_REGISTER(name, function, AutogradCPU) \
    EQUICALC_REGISTER(name, function, AutogradCUDA)

// An operator, to be kept. Through the dispatcher tracers of torch.export see one operator, and not
// what is in it.
template <typename Signature>
auto operator_of(const char *name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// Error unless the tensor has the device and the type of the other.
void check_like(const torch::Tensor &tensor, const torch::Tensor &like, const char *name);

// Errors when derivatives beyond those of the operator `name` are asked for; `instead` says where
// they are.
inline constexpr const char *kThroughExpressions =
    "set fused = False on the modules of equicalc.nn to go through torch expressions";
void refuse_second_derivative(const char *name, const char *instead = kThroughExpressions);
void refuse_third_derivative(const char *name);

// Whether kernels of groups of lanes (cuda/lanes.h) do the work on this tensor: on the device, and
// on the host while they are tested there.
bool uses_groups(const torch::Tensor &tensor);
// The stream that kernels for this tensor go to, as CUDA's own handle.
void *stream_of(const torch::Tensor &tensor);
[[noreturn]] void refuse_cuda();

// Runs a functor of groups of lanes on n items, where the tensor is.
template <typename F>
void run_groups(const torch::Tensor &where, const F &functor, int64_t n_items) {
    if (!where.is_cuda()) {
        groups::Launches<F>::on_host(functor, n_items, nullptr);
        return;
    }
    if (groups::Launches<F>::on_cuda == nullptr) {
        refuse_cuda();
    }
    const c10::OptionalDeviceGuard guard(where.device());
    groups::Launches<F>::on_cuda(functor, n_items, stream_of(where));
}

// The same for functors of one lane without memory, for which the source of the device is that of
// the CPU too.
template <typename F>
void run_items(const torch::Tensor &where, const F &functor, int64_t n_items) {
    constexpr int64_t kItems = 2048;  // that one task of a thread works on
    if (uses_groups(where)) {
        run_groups(where, functor, n_items);
        return;
    }
    at::parallel_for(0, n_items, kItems, [&](int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end; ++item) {
            functor(item, groups::Lane{nullptr});
        }
    });
}

// A constant of a network, which may be on the device, as a tensor on the CPU. Copies are kept.
torch::Tensor on_host(const torch::Tensor &constant);

// start[k] = number of edges whose key is below k, for ascending keys; [n_rows + 1]. On the device
// results are kept as long as the keys exist.
torch::Tensor row_starts(const torch::Tensor &keys, int64_t n_rows);

// Edges by sender: row starts [n_senders + 1] and edges [E], ascending within a sender.
std::pair<torch::Tensor, torch::Tensor> transpose_edges(const torch::Tensor &senders,
                                                        int64_t n_senders);

// Results of the two functions above that are known already; kept as those of the device are.
void remember_rows(const torch::Tensor &keys, int64_t n_rows, const torch::Tensor &starts);
void remember_senders(const torch::Tensor &senders, int64_t n_senders, const torch::Tensor &starts,
                      const torch::Tensor &edges);

}  // namespace equicalc
