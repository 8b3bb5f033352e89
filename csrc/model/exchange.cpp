// The torch operator equicalc::exchange(h, n_total): node features of owned atoms -> owned and halo
// atoms. The network calls it between layers and needs to know nothing about ranks.
#include "equicalc.h"

#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <string_view>
#include <type_traits>

namespace equicalc {
namespace {

[[maybe_unused]] constexpr std::string_view kKindName = "equicalc halo exchange";

// torch 2.13 takes any name; before, kinds were a fixed list with some that nobody else uses.
template <typename Kind>
Kind our_kind() {
    if constexpr (std::is_enum_v<Kind>) {
        return Kind::TEST_INFO_2;
    } else {
        return Kind(&kKindName);
    }
}

const auto kKind = our_kind<c10::DebugInfoKind>();

// Torch carries such information to the threads on which it runs a backward pass. One per thread:
// several evaluators (one per rank in a test) may run side by side in a process.
struct CurrentExchange : public c10::DebugInfoBase {
    explicit CurrentExchange(HaloExchange *value) : exchange(value) {}
    HaloExchange *exchange;
};

HaloExchange *current_exchange() {
    const auto *current =
        static_cast<const CurrentExchange *>(c10::ThreadLocalDebugInfo::get(kKind));
    return current != nullptr ? current->exchange : nullptr;
}

void require_single_rank(const c10::SymInt &n_local, const c10::SymInt &n_total) {
    TORCH_CHECK(n_local == n_total, "equicalc::exchange: the graph has ", n_total,
                " atoms but only ", n_local,
                " of them have features, and no halo exchange is set on this thread. On one rank "
                "map periodic images to their owners (n_total == n_local); on several ranks pass "
                "a HaloExchange to Evaluator::forward and Evaluator::backward.");
}

// Features of any shape travel as rows of numbers: the same memory.
torch::Tensor as_rows(const torch::Tensor &h) {
    return h.view({h.size(0), c10::multiply_integers(h.sizes().slice(1))});
}

std::vector<int64_t> with_rows(const torch::Tensor &h, int64_t rows) {
    std::vector<int64_t> shape = h.sizes().vec();
    shape[0] = rows;
    return shape;
}

torch::Tensor exchange_forward(const torch::Tensor &h, int64_t n_total) {
    if (current_exchange() == nullptr) {
        require_single_rank(h.size(0), n_total);
        return h;
    }
    const torch::Tensor total = torch::empty(with_rows(h, n_total), h.options());
    total.narrow(0, 0, h.size(0)).copy_(h);
    current_exchange()->forward(as_rows(total), h.size(0));
    return total;
}

torch::Tensor exchange_reverse(const torch::Tensor &grad_total, int64_t n_local) {
    TORCH_CHECK(current_exchange() != nullptr,
                "equicalc::exchange: the backward pass reached a halo exchange on a thread without "
                "one. Call Evaluator::backward with the HaloExchange of the forward call");
    const torch::Tensor sum = grad_total.clone(torch::MemoryFormat::Contiguous);
    current_exchange()->reverse(as_rows(sum), n_local);
    return sum.narrow(0, 0, n_local);
}

struct ExchangeFunction : public torch::autograd::Function<ExchangeFunction> {
    static torch::Tensor forward(torch::autograd::AutogradContext *context, const torch::Tensor &h,
                                 int64_t n_total) {
        context->saved_data["n_local"] = h.size(0);
        return exchange_forward(h, n_total);
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                   const torch::autograd::variable_list &grads) {
        // Missing gradients arrive as zeros (autograd's default), so a rank whose halo features
        // are unused still takes part in the collective call.
        return {exchange_reverse(grads[0], context->saved_data["n_local"].toInt()),
                torch::Tensor()};
    }
};

torch::Tensor exchange_meta(const torch::Tensor &h, int64_t n_total) {
    return torch::empty(with_rows(h, n_total), h.options());
}

torch::Tensor exchange_autograd(const torch::Tensor &h, c10::SymInt n_total) {
    if (h.is_meta()) {
        return exchange_meta(h, n_total.guard_int(__FILE__, __LINE__));
    }
    // identity, differentiable to any order; numbers of atoms stay symbols while torch.export
    // traces
    if (current_exchange() == nullptr) {
        require_single_rank(h.sym_size(0), n_total);
        return h;
    }
    return ExchangeFunction::apply(h, n_total.guard_int(__FILE__, __LINE__));
}

}  // namespace

ExchangeScope::ExchangeScope(HaloExchange *exchange) {
    c10::ThreadLocalDebugInfo::_push(kKind, std::make_shared<CurrentExchange>(exchange));
}

ExchangeScope::~ExchangeScope() { c10::ThreadLocalDebugInfo::_pop(kKind); }

}  // namespace equicalc

TORCH_LIBRARY(equicalc, library) { library.def("exchange(Tensor h, SymInt n_total) -> Tensor"); }

TORCH_LIBRARY_IMPL(equicalc, CPU, library) { library.impl("exchange", equicalc::exchange_forward); }

TORCH_LIBRARY_IMPL(equicalc, CUDA, library) {
    library.impl("exchange", equicalc::exchange_forward);
}

TORCH_LIBRARY_IMPL(equicalc, Meta, library) { library.impl("exchange", equicalc::exchange_meta); }

TORCH_LIBRARY_IMPL(equicalc, Autograd, library) {
    library.impl("exchange", equicalc::exchange_autograd);
}
