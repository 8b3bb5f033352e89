#include "fused_ops.h"

#include <vector>

namespace equicalc {

using torch::Tensor;

void check_like(const Tensor &tensor, const Tensor &like, const char *name) {
    TORCH_CHECK(tensor.device().is_cpu() && tensor.scalar_type() == like.scalar_type(),
                "equicalc: ", name, " must be a CPU tensor of type ", like.scalar_type(),
                ", found ", tensor.device(), " ", tensor.scalar_type());
}

void refuse_third_derivative(const char *name) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "equicalc: ", name,
                " has first and second derivatives, and a third was asked for; set fused = False "
                "on the modules of equicalc.nn to go through torch expressions");
}

// start[k] = number of edges whose key is below k, for ascending keys.
Tensor row_starts(const Tensor &keys, int64_t n_rows) {
    Tensor starts = torch::zeros({n_rows + 1}, torch::kInt64);
    int64_t *start = starts.data_ptr<int64_t>();
    const int64_t *key = keys.data_ptr<int64_t>();
    for (int64_t e = 0; e < keys.numel(); ++e) {
        TORCH_CHECK(key[e] >= 0 && key[e] < n_rows && (e == 0 || key[e] >= key[e - 1]),
                    "equicalc: edge_index[0] must hold ascending receivers below ", n_rows,
                    ", found ", key[e], " at edge ", e);
        ++start[key[e] + 1];
    }
    for (int64_t k = 0; k < n_rows; ++k) {
        start[k + 1] += start[k];
    }
    return starts;
}

// Edges by sender: row starts [n_senders + 1] and edges [E], ascending within a sender.
std::pair<Tensor, Tensor> transpose_edges(const Tensor &senders, int64_t n_senders) {
    Tensor starts = torch::zeros({n_senders + 1}, torch::kInt64);
    Tensor edges = torch::empty({senders.numel()}, torch::kInt64);
    int64_t *start = starts.data_ptr<int64_t>();
    const int64_t *sender = senders.data_ptr<int64_t>();
    for (int64_t e = 0; e < senders.numel(); ++e) {
        TORCH_CHECK(sender[e] >= 0 && sender[e] < n_senders,
                    "equicalc: edge_index[1] must hold senders below ", n_senders, ", found ",
                    sender[e], " at edge ", e);
        ++start[sender[e] + 1];
    }
    for (int64_t k = 0; k < n_senders; ++k) {
        start[k + 1] += start[k];
    }
    std::vector<int64_t> next(start, start + n_senders);
    for (int64_t e = 0; e < senders.numel(); ++e) {
        edges.data_ptr<int64_t>()[next[sender[e]]++] = e;
    }
    return {starts, edges};
}

}  // namespace equicalc
