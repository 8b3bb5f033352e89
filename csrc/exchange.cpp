// The torch operator equicalc::exchange(h, n_total): node features of owned atoms -> owned and halo
// atoms. The network calls it between layers and needs to know nothing about ranks.
#include "equicalc.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace equicalc {
namespace {

// One per thread: several evaluators (one per rank in a test) may run side by side in a process.
thread_local HaloExchange *current_exchange = nullptr;

void require_single_rank(int64_t n_local, int64_t n_total) {
    TORCH_CHECK(n_local == n_total, "equicalc::exchange: the graph has ", n_total,
                " atoms but only ", n_local,
                " of them have features, and no halo exchange is set on this thread. On one rank "
                "map periodic images to their owners (n_total == n_local); on several ranks pass "
                "a HaloExchange to Evaluator::forward and Evaluator::backward.");
}

// Features of any shape travel as rows of numbers.
torch::Tensor as_rows(const torch::Tensor &h) {
    const int64_t width =
        h.numel() == 0 ? c10::multiply_integers(h.sizes().slice(1)) : h.numel() / h.size(0);
    return h.reshape({h.size(0), width}).contiguous();
}

std::vector<int64_t> with_rows(const torch::Tensor &h, int64_t rows) {
    std::vector<int64_t> shape = h.sizes().vec();
    shape[0] = rows;
    return shape;
}

torch::Tensor checked(const torch::Tensor &result, int64_t rows, int64_t width, const char *what) {
    TORCH_CHECK(
        result.defined() && result.dim() == 2 && result.size(0) == rows && result.size(1) == width,
        "HaloExchange::", what, " must return a tensor of shape [", rows, ", ", width, "]");
    return result;
}

torch::Tensor exchange_forward(const torch::Tensor &h, int64_t n_total) {
    if (current_exchange == nullptr) {
        require_single_rank(h.size(0), n_total);
        return h;
    }
    const torch::Tensor rows = as_rows(h);
    return checked(current_exchange->forward(rows, n_total), n_total, rows.size(1), "forward")
        .view(with_rows(h, n_total));
}

torch::Tensor exchange_reverse(const torch::Tensor &grad_total, int64_t n_local) {
    // On CUDA autograd runs on threads of its own, where no exchange is set: that ends here too.
    TORCH_CHECK(current_exchange != nullptr,
                "equicalc::exchange: the backward pass reached a halo exchange on a thread without "
                "one. Call Evaluator::backward with the HaloExchange of the forward call; several "
                "ranks are supported on the CPU only.");
    const torch::Tensor rows = as_rows(grad_total);
    return checked(current_exchange->reverse(rows, n_local), n_local, rows.size(1), "reverse")
        .view(with_rows(grad_total, n_local));
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

torch::Tensor exchange_autograd(const torch::Tensor &h, int64_t n_total) {
    if (h.is_meta()) {
        return exchange_meta(h, n_total);
    }
    if (current_exchange == nullptr) {  // identity, differentiable to any order
        require_single_rank(h.size(0), n_total);
        return h;
    }
    return ExchangeFunction::apply(h, n_total);
}

}  // namespace

ExchangeScope::ExchangeScope(HaloExchange *exchange) : previous_(current_exchange) {
    current_exchange = exchange;
}

ExchangeScope::~ExchangeScope() { current_exchange = previous_; }

}  // namespace equicalc

TORCH_LIBRARY(equicalc, library) { library.def("exchange(Tensor h, int n_total) -> Tensor"); }

TORCH_LIBRARY_IMPL(equicalc, CPU, library) { library.impl("exchange", equicalc::exchange_forward); }

TORCH_LIBRARY_IMPL(equicalc, CUDA, library) {
    library.impl("exchange", equicalc::exchange_forward);
}

TORCH_LIBRARY_IMPL(equicalc, Meta, library) { library.impl("exchange", equicalc::exchange_meta); }

TORCH_LIBRARY_IMPL(equicalc, Autograd, library) {
    library.impl("exchange", equicalc::exchange_autograd);
}
