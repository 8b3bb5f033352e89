#include "direct/graph.h"

#include <ATen/Parallel.h>

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
    // Every thread counts the senders of a range of edges, and knows then where it puts them: the
    // order is that of the edges, however many threads there are.
    const int64_t n_ranges =
        std::max<int64_t>(std::min<int64_t>(at::get_num_threads(), n_edges()), 1);
    const auto for_ranges = [&](const auto &body) {
        at::parallel_for(0, n_ranges, 1, [&](int64_t first, int64_t last) {
            for (int64_t k = first; k < last; ++k) {
                int32_t *places = next_.data() + k * n_total_;
                for (int64_t e = k * n_edges() / n_ranges; e < (k + 1) * n_edges() / n_ranges;
                     ++e) {
                    body(static_cast<int32_t>(e), places[senders_[e]]);
                }
            }
        });
    };
    next_.assign(n_ranges * n_total_, 0);
    for_ranges([](int32_t, int32_t &count) { ++count; });
    sender_start_.resize(n_total_ + 1);
    int32_t place = 0;
    for (int64_t j = 0; j < n_total_; ++j) {
        sender_start_[j] = place;
        for (int64_t k = 0; k < n_ranges; ++k) {
            const int32_t count = next_[k * n_total_ + j];
            next_[k * n_total_ + j] = place;
            place += count;
        }
    }
    sender_start_[n_total_] = place;
    int32_t *by_sender = by_sender_.ensure(n_edges());
    for_ranges([by_sender](int32_t edge, int32_t &to) { by_sender[to++] = edge; });
    ordered_by_sender_ = true;
}

}  // namespace equicalc::direct
