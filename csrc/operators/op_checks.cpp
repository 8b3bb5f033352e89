#include "operators/op_checks.h"

#include <algorithm>

namespace equicalc {
namespace {

using torch::Tensor;

void check_index(const Tensor &index, const Tensor &like, const char *op, const char *name) {
    TORCH_CHECK(index.scalar_type() == torch::kInt64 && index.device() == like.device(),
                "equicalc: ", op, " takes int64 ", name, " on ", like.device(), ", found ",
                index.scalar_type(), " on ", index.device());
}

}  // namespace

void check_shape(const Tensor &tensor, at::IntArrayRef shape, const char *op, const char *name) {
    bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
    for (size_t k = 0; fits && k < shape.size(); ++k) {
        fits = shape[k] == kAny || tensor.size(static_cast<int64_t>(k)) == shape[k];
    }
    TORCH_CHECK(fits, "equicalc: ", op, " takes ", name, " of shape ", shape, " (-1: any), found ",
                tensor.sizes());
}

void check_indices(const Tensor &index, int64_t limit, const char *op, const char *name,
                   int64_t least) {
    if (!index.is_cpu() || index.numel() == 0) {
        return;
    }
    const Tensor values = index.contiguous();
    const int64_t *first = values.const_data_ptr<int64_t>();
    const auto [lowest, highest] = std::minmax_element(first, first + values.numel());
    TORCH_CHECK(*lowest >= least && *highest < limit, "equicalc: ", op, " takes ", name, " of ",
                least, " to ", limit - 1, ", found ", *lowest, " to ", *highest);
}

void check_edges(const Tensor &edge_index, int64_t n_edges, int64_t n_total, const Tensor &like,
                 const char *op) {
    check_shape(edge_index, {2, n_edges}, op, "edge_index");
    check_index(edge_index, like, op, "edge_index");
    check_indices(edge_index.select(0, 1), n_total, op, "senders edge_index[1]");
}

int64_t degrees(int64_t n_components) {
    int64_t n_degrees = 1;
    while (n_degrees * n_degrees < n_components) {
        ++n_degrees;
    }
    return n_degrees;
}

int64_t check_components(int64_t n_components, const char *op) {
    const int64_t n_degrees = degrees(n_components);
    TORCH_CHECK(n_degrees * n_degrees == n_components, "equicalc: ", op,
                " takes (l_max + 1)^2 components, found ", n_components);
    return n_degrees;
}

void check_species(const Tensor &species, int64_t n_atoms, int64_t n_species, const Tensor &like,
                   const char *op) {
    check_shape(species, {n_atoms}, op, "species");
    check_index(species, like, op, "species");
    check_indices(species, n_species, op, "species");
}

}  // namespace equicalc
