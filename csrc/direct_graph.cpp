#include "direct_graph.h"

#include <algorithm>
#include <limits>
#include <string>

namespace equicalc::direct {
namespace {

// Edges and atoms are counted in 32 bits: half the memory, and far beyond any one machine.
void require_countable(int64_t count, const char *what) {
    if (count > std::numeric_limits<int32_t>::max()) {
        throw Error("equicalc: " + std::to_string(count) + " " + what +
                    " on one rank, at most 2147483647 can be counted. Take more ranks");
    }
}

// A row of the index as it is, or copied; numbers that are too large become -1 and are refused.
const int32_t *in_32_bits(const torch::Tensor &row, Buffer<int32_t> &copy) {
    if (row.scalar_type() == torch::kInt32 && row.is_contiguous()) {
        return row.data_ptr<int32_t>();
    }
    const torch::Tensor wide = row.to(torch::kInt64).contiguous();
    const int64_t *from = wide.data_ptr<int64_t>();
    return std::transform(
               from, from + wide.numel(), copy.ensure(wide.numel()),
               [](int64_t value) {
                   return static_cast<int32_t>(value) == value ? static_cast<int32_t>(value) : -1;
               }) -
           wide.numel();
}

}  // namespace

void EdgeIndex::build(const Graph &graph, int64_t n_species) {
    vectors_ = graph.edge_vectors.contiguous();
    species_tensor_ = graph.species.contiguous();
    n_local_ = graph.n_local;
    n_total_ = species_tensor_.size(0);
    require_countable(n_total_, "atoms");
    require_countable(n_edges(), "edges");
    index_ = graph.edge_index;
    receivers_ = in_32_bits(index_.select(0, 0), copies_[0]);
    senders_ = in_32_bits(index_.select(0, 1), copies_[1]);
    species_ = species_tensor_.data_ptr<int64_t>();
    ordered_by_sender_ = false;
    for (int64_t i = 0; i < n_total_; ++i) {
        if (species_[i] < 0 || species_[i] >= n_species) {
            throw Error("equicalc: bad graph: atom " + std::to_string(i) + " has species " +
                        std::to_string(species_[i]) + ", expected 0 to " +
                        std::to_string(n_species - 1));
        }
    }
    start_.assign(n_local_ + 1, 0);
    int32_t last = 0;
    for (int64_t e = 0; e < n_edges(); ++e) {
        if (receivers_[e] < last || receivers_[e] >= n_local_ || senders_[e] < 0 ||
            senders_[e] >= n_total_) {
            throw Error("equicalc: bad graph: edge " + std::to_string(e) + " goes from atom " +
                        std::to_string(senders_[e]) + " to atom " + std::to_string(receivers_[e]) +
                        "; receivers must ascend and be below " + std::to_string(n_local_) +
                        ", senders below " + std::to_string(n_total_));
        }
        last = receivers_[e];
        ++start_[last + 1];
    }
    for (int64_t i = 0; i < n_local_; ++i) {
        start_[i + 1] += start_[i];
    }
}

void EdgeIndex::order_by_sender() {
    if (ordered_by_sender_) {
        return;
    }
    sender_start_.assign(n_total_ + 1, 0);
    for (int64_t e = 0; e < n_edges(); ++e) {
        ++sender_start_[senders_[e] + 1];
    }
    for (int64_t j = 0; j < n_total_; ++j) {
        sender_start_[j + 1] += sender_start_[j];
    }
    next_.assign(sender_start_.begin(), sender_start_.end() - 1);
    int32_t *by_sender = by_sender_.ensure(n_edges());
    for (int64_t e = 0; e < n_edges(); ++e) {
        by_sender[next_[senders_[e]]++] = static_cast<int32_t>(e);
    }
    ordered_by_sender_ = true;
}

}  // namespace equicalc::direct
