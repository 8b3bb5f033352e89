#include "halo.h"

#include "comm.h"
#include "pair.h"
#include "timer.h"

#include <cstring>

namespace equicalc_lammps {
namespace {

// Buffers are double, rows may be float: copying keeps the compiler's aliasing rules.
template <typename Number>
void add_row(char *row, const double *buffer, int bytes) {
    auto *sum = reinterpret_cast<Number *>(row);
    const char *source = reinterpret_cast<const char *>(buffer);
    for (int k = 0; k < bytes / static_cast<int>(sizeof(Number)); ++k) {
        Number value;
        std::memcpy(&value, source + k * sizeof(Number), sizeof(Number));
        sum[k] += value;
    }
}

}  // namespace

Halo::Halo(LAMMPS_NS::LAMMPS *lmp, LAMMPS_NS::Pair *pair, AtomGraph &graph)
    : Pointers(lmp), pair_(pair), graph_(graph) {}

int Halo::buffer_size(int64_t width, int64_t bytes_per_number) {
    const auto size = static_cast<int64_t>(sizeof(double));
    return static_cast<int>((width * bytes_per_number + size - 1) / size);
}

void Halo::find_owners() {
    sending_owners_ = true;
    comm->forward_comm(pair_, 2);
    sending_owners_ = false;
}

void Halo::use(const torch::Tensor &features) {
    TORCH_CHECK(
        features.scalar_type() == torch::kFloat64 || features.scalar_type() == torch::kFloat32,
        "features must be float64 or float32 to cross ranks");
    features_ = features;
    data_ = static_cast<char *>(features_.data_ptr());
    row_bytes_ = static_cast<int>(features_.size(1) * features_.element_size());
    row_doubles_ = buffer_size(features_.size(1), features_.element_size());
    single_precision_ = features_.scalar_type() == torch::kFloat32;
}

char *Halo::row_data(int row) const { return data_ + static_cast<int64_t>(row) * row_bytes_; }

torch::Tensor Halo::forward(const torch::Tensor &local, int64_t n_total) {
    torch::Tensor total = torch::empty({n_total, local.size(1)}, local.options());
    total.narrow(0, 0, local.size(0)).copy_(local);
    use(total);
    if (row_doubles_ > 0) {
        timer->stamp(LAMMPS_NS::Timer::PAIR);
        comm->forward_comm(pair_, row_doubles_);
        timer->stamp(LAMMPS_NS::Timer::COMM);
    }
    features_.reset();
    return total;
}

torch::Tensor Halo::reverse(const torch::Tensor &grad_total, int64_t n_local) {
    torch::Tensor sum = grad_total.clone(torch::MemoryFormat::Contiguous);
    use(sum);
    if (row_doubles_ > 0) {
        timer->stamp(LAMMPS_NS::Timer::PAIR);
        comm->reverse_comm(pair_, row_doubles_);
        timer->stamp(LAMMPS_NS::Timer::COMM);
    }
    features_.reset();
    return sum.narrow(0, 0, n_local);
}

int Halo::pack_forward(int n, const int *list, double *buffer) const {
    if (sending_owners_) {
        for (int k = 0; k < n; ++k) {
            const Owner owner = graph_.owners()[list[k]];
            buffer[2 * k] = owner.rank;
            buffer[2 * k + 1] = owner.row;
        }
        return 2 * n;
    }
    for (int k = 0; k < n; ++k) {
        double *target = buffer + static_cast<int64_t>(k) * row_doubles_;
        const int row = graph_.row_of_atom()[list[k]];
        target[row_doubles_ - 1] = 0.0;  // an odd number of floats leaves half a double unused
        if (row >= 0) {
            std::memcpy(target, row_data(row), row_bytes_);
        }
    }
    return n * row_doubles_;
}

void Halo::unpack_forward(int n, int first, const double *buffer) {
    for (int k = 0; k < n; ++k) {
        const int atom = first + k;
        if (sending_owners_) {
            graph_.owners()[atom] = {static_cast<int>(buffer[2 * k]),
                                     static_cast<int>(buffer[2 * k + 1])};
            continue;
        }
        const int row = graph_.row_of_atom()[atom];
        if (row >= graph_.n_local()) {
            std::memcpy(row_data(row), buffer + static_cast<int64_t>(k) * row_doubles_, row_bytes_);
        }
    }
}

int Halo::pack_reverse(int n, int first, double *buffer) const {
    for (int k = 0; k < n; ++k) {
        double *target = buffer + static_cast<int64_t>(k) * row_doubles_;
        std::memset(target, 0, row_doubles_ * sizeof(double));
        const int row = graph_.row_of_atom()[first + k];
        if (row >= graph_.n_local() && graph_.atom_of_row()[row] == first + k) {
            std::memcpy(target, row_data(row), row_bytes_);
        }
    }
    return n * row_doubles_;
}

void Halo::unpack_reverse(int n, const int *list, const double *buffer) {
    for (int k = 0; k < n; ++k) {
        const int row = graph_.row_of_atom()[list[k]];
        if (row < 0) {
            continue;
        }
        const double *source = buffer + static_cast<int64_t>(k) * row_doubles_;
        if (single_precision_) {
            add_row<float>(row_data(row), source, row_bytes_);
        } else {
            add_row<double>(row_data(row), source, row_bytes_);
        }
    }
}

}  // namespace equicalc_lammps
