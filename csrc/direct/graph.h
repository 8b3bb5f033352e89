// Edges of a graph by receiver and by sender.
#pragma once

#include <vector>

#include "direct/packing.h"
#include "equicalc.h"

namespace equicalc::direct {

class EdgeIndex {
  public:
    // Checks that receivers ascend and that every atom and species exists.
    void build(const Graph &graph, int64_t n_species);

    int64_t n_local() const { return n_local_; }
    int64_t n_total() const { return n_total_; }
    int64_t n_edges() const { return vectors_.size(0); }
    const double *vectors() const { return vectors_.data_ptr<double>(); }
    int64_t receiver(int64_t edge) const { return receivers_[edge]; }
    int64_t sender(int64_t edge) const { return senders_[edge]; }
    int64_t species(int64_t atom) const { return species_[atom]; }
    const int64_t *species() const { return species_; }
    // Edges of receivers [begin, end).
    EdgeList of_receivers(int64_t begin, int64_t end) const {
        return {vectors(), nullptr, start_[begin], start_[end] - start_[begin]};
    }
    int64_t start(int64_t receiver) const { return start_[receiver]; }
    // Edges of senders [begin, end), after order_by_sender().
    EdgeList of_senders(int64_t begin, int64_t end) const {
        return {vectors(), by_sender_.data() + sender_start_[begin], 0,
                sender_start_[end] - sender_start_[begin]};
    }
    void order_by_sender();

  private:
    torch::Tensor index_, vectors_, species_tensor_;  // kept alive
    const int32_t *receivers_ = nullptr, *senders_ = nullptr;
    const int64_t *species_ = nullptr;
    int64_t n_local_ = 0, n_total_ = 0;
    bool ordered_by_sender_ = false;
    std::vector<int64_t> start_, sender_start_;
    std::vector<int32_t> next_;
    Buffer<int32_t> by_sender_, copies_[2];
};

}  // namespace equicalc::direct
