#include "operators/fused_ops.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <limits>
#include <mutex>
#include <vector>

#include "cuda/graph.h"
#include "model/recording.h"

namespace equicalc {

using torch::Tensor;

bool uses_groups(const Tensor &tensor) {
    return tensor.is_cuda() || (groups::Available::on_host && tensor.is_cpu());
}

void *stream_of(const Tensor &tensor) {
    const auto *guard = c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA);
    return guard->getStream(tensor.device()).native_handle();
}

void refuse_cuda() {
    TORCH_CHECK(false,
                "equicalc: this build has no kernels for CUDA devices; build it with nvcc in PATH "
                "and EQUICALC_CUDA=1, or set fused = False on the modules of equicalc.nn");
}

void check_like(const Tensor &tensor, const Tensor &like, const char *name) {
    TORCH_CHECK(tensor.device() == like.device() && tensor.scalar_type() == like.scalar_type(),
                "equicalc: ", name, " must be a tensor of type ", like.scalar_type(), " on ",
                like.device(), ", found ", tensor.device(), " ", tensor.scalar_type());
}

void refuse_second_derivative(const char *name, const char *instead) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "equicalc: ", name,
                " has first derivatives only, and a second was asked for; ", instead);
}

void refuse_third_derivative(const char *name) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "equicalc: ", name,
                " has first and second derivatives, and a third was asked for; ",
                kThroughExpressions);
}

namespace {

// What was made of tensors on the device, as long as these exist unchanged: rows of edges, which
// the layers of a network and their gradients share, and copies of constants.
class RowCache {
  public:
    using Rows = std::pair<Tensor, Tensor>;  // starts, order

    explicit RowCache(size_t size) : size_(size) {}

    template <typename Make>
    Rows get(const Tensor &keys, int64_t n_rows, bool sorted, const Make &make) {
        if (keys.is_inference() || keys.numel() == 0) {
            return make();
        }
        const std::lock_guard<std::mutex> lock(mutex_);
        for (const Entry &entry : entries_) {
            if (entry.matches(keys, n_rows, sorted)) {
                return entry.rows;
            }
        }
        return add(keys, n_rows, sorted, make());
    }

    void put(const Tensor &keys, int64_t n_rows, bool sorted, const Rows &rows) {
        if (!keys.is_inference()) {
            const std::lock_guard<std::mutex> lock(mutex_);
            add(keys, n_rows, sorted, rows);
        }
    }

    void clear() {
        const std::lock_guard<std::mutex> lock(mutex_);
        entries_.clear();
    }

  private:
    struct Entry {
        c10::weak_intrusive_ptr<c10::StorageImpl> storage;
        const void *data;
        int64_t n_keys;
        int64_t version;
        int64_t n_rows;
        bool sorted;
        Rows rows;

        bool matches(const Tensor &keys, int64_t n, bool is_sorted) const {
            return !storage.expired() && data == keys.data_ptr() && n_keys == keys.numel() &&
                   version == keys._version() && n_rows == n && sorted == is_sorted;
        }
    };

    Rows add(const Tensor &keys, int64_t n_rows, bool sorted, const Rows &rows) {
        std::erase_if(entries_, [](const Entry &entry) { return entry.storage.expired(); });
        if (entries_.size() >= size_) {
            entries_.erase(entries_.begin());
        }
        entries_.push_back({keys.storage().getWeakStorageImpl(), keys.data_ptr(), keys.numel(),
                            keys._version(), n_rows, sorted, rows});
        return rows;
    }

    size_t size_;
    std::mutex mutex_;
    std::vector<Entry> entries_;
};

RowCache &row_cache() {
    static auto *cache = new RowCache(8);  // never freed: the device may be closed before
    return *cache;
}

// The same as below on the device; which names the list in an error.
Tensor starts_on_device(const Tensor &keys, int64_t n_rows, const char *which) {
    const int64_t n_edges = keys.numel();
    Tensor starts = torch::empty({n_rows + 1}, keys.options());
    Tensor bad = torch::zeros({1}, keys.options());
    run_groups(keys,
               groups::RowStarts{n_edges, n_rows, keys.data_ptr<int64_t>(),
                                 starts.data_ptr<int64_t>(), bad.data_ptr<int64_t>()},
               n_edges + 1);
    if (keys.is_cuda() && Recorder::is_recording != nullptr && Recorder::is_recording()) {
        return starts;  // whoever records has checked the edges, and nobody may wait now
    }
    const int64_t edge = bad.item<int64_t>() - 1;
    TORCH_CHECK(edge < 0, "equicalc: ", which, " below ", n_rows, ", found ",
                keys[edge].item<int64_t>(), " at edge ", edge);
    return starts;
}

RowCache &constant_cache() {
    static auto *cache = new RowCache(512);
    return *cache;
}

constexpr const char *kReceivers = "edge_index[0] must hold ascending receivers";
constexpr const char *kSenders = "edge_index[1] must hold senders";

}  // namespace

Tensor on_host(const Tensor &constant) {
    if (constant.is_cpu()) {
        return constant;
    }
    return constant_cache()
        .get(constant, 0, false,
             [&]() -> RowCache::Rows { return {constant.to(torch::kCPU).contiguous(), Tensor()}; })
        .first;
}

void forget_rows() { row_cache().clear(); }

void remember_rows(const Tensor &keys, int64_t n_rows, const Tensor &starts) {
    row_cache().put(keys, n_rows, true, {starts, Tensor()});
}

void remember_senders(const Tensor &senders, int64_t n_senders, const Tensor &starts,
                      const Tensor &edges) {
    row_cache().put(senders, n_senders, false, {starts, edges});
}

// start[k] = number of edges whose key is below k, for ascending keys.
Tensor row_starts(const Tensor &keys, int64_t n_rows) {
    if (uses_groups(keys)) {
        return row_cache()
            .get(keys, n_rows, true,
                 [&]() -> RowCache::Rows {
                     return {starts_on_device(keys, n_rows, kReceivers), Tensor()};
                 })
            .first;
    }
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
    if (uses_groups(senders)) {
        return row_cache().get(senders, n_senders, false, [&]() -> RowCache::Rows {
            // 32 bits take half the passes of 64
            const bool is_small = n_senders < std::numeric_limits<int32_t>::max();
            const auto [sorted, order] =
                torch::sort(is_small ? senders.to(torch::kInt32) : senders, /*stable=*/true,
                            /*dim=*/0, /*descending=*/false);
            return {starts_on_device(sorted.to(torch::kInt64), n_senders, kSenders), order};
        });
    }
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

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    // Whether operators run on CUDA devices.
    library.def("has_cuda_kernels() -> bool", [] { return groups::Available::on_cuda; });
}

}  // namespace equicalc
