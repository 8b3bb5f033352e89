#include "direct_graph.h"

#include <algorithm>

namespace equicalc::direct {

void EdgeIndex::build(const Graph &graph, int64_t n_species) {
    index_ = graph.edge_index.contiguous();
    vectors_ = graph.edge_vectors.contiguous();
    species_tensor_ = graph.species.contiguous();
    n_local_ = graph.n_local;
    n_total_ = species_tensor_.size(0);
    receivers_ = index_.data_ptr<int64_t>();
    senders_ = receivers_ + n_edges();
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
    int64_t last = 0;
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
    by_sender_.resize(n_edges());
    for (int64_t e = 0; e < n_edges(); ++e) {
        by_sender_[next_[senders_[e]]++] = e;
    }
    ordered_by_sender_ = true;
}

}  // namespace equicalc::direct
