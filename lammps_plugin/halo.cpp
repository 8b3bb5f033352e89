#include "halo.h"

#include "atom.h"
#include "comm.h"
#include "pair.h"
#include "timer.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <cstring>

namespace equicalc_lammps {
namespace {

// Buffers are double, rows may be float: copying keeps the compiler's aliasing rules.
template <typename Number>
void add_numbers(char *row, const char *source, int bytes) {
    auto *sum = reinterpret_cast<Number *>(row);
    for (int k = 0; k < bytes / static_cast<int>(sizeof(Number)); ++k) {
        Number value;
        std::memcpy(&value, source + k * sizeof(Number), sizeof(Number));
        sum[k] += value;
    }
}

}  // namespace

Halo::Halo(LAMMPS_NS::LAMMPS *lmp, LAMMPS_NS::Pair *pair, AtomGraph &graph, bool is_staged)
    : Pointers(lmp), pair_(pair), graph_(graph), is_staged_(is_staged) {}

int Halo::buffer_size(int64_t width, int64_t bytes_per_number) {
    const auto size = static_cast<int64_t>(sizeof(double));
    return static_cast<int>((width * bytes_per_number + size - 1) / size);
}

void Halo::find_owners() {
    message_ = Message::owners;
    comm->forward_comm(pair_, kNumbersOfOwner);
    message_ = Message::rows;
}

bool Halo::stands_for_row(int ghost) const {
    const int row = graph_.row_of_atom()[ghost];
    return row >= graph_.n_local() && graph_.atom_of_row()[row] == ghost;
}

bool Halo::travels(int ghost) const {
    return stands_for_row(ghost) &&
           travellers_->rows[graph_.row_of_atom()[ghost] - graph_.n_local()] != 0;
}

void Halo::use(const torch::Tensor &rows) {
    TORCH_CHECK(rows.scalar_type() == torch::kFloat64 || rows.scalar_type() == torch::kFloat32,
                "features must be float64 or float32 to cross ranks");
    TORCH_CHECK((rows.dim() == 2 || rows.dim() == 3) && (rows.size(-1) < 2 || rows.stride(-1) == 1),
                "features must be rows of numbers side by side to cross ranks");
    const auto size = static_cast<int64_t>(rows.element_size());
    const bool grouped = rows.dim() == 3;
    rows_.data = static_cast<char *>(rows.data_ptr());
    rows_.stride = size * rows.stride(0);
    rows_.groups = grouped ? rows.size(1) : 1;
    rows_.group_stride = grouped ? size * rows.stride(1) : 0;
    rows_.group_bytes = static_cast<int>(size * rows.size(-1));
    rows_.doubles = buffer_size(rows_.groups * rows.size(-1), size);
    if (rows_.group_stride == rows_.group_bytes) {  // no gaps
        rows_.group_bytes *= static_cast<int>(rows_.groups);
        rows_.groups = 1;
    }
    rows_.single_precision = rows.scalar_type() == torch::kFloat32;
}

void Halo::read_row(int row, double *buffer) const {
    const char *from = rows_.data + place_of(row) * rows_.stride;
    char *to = reinterpret_cast<char *>(buffer);
    for (int64_t k = 0; k < rows_.groups; ++k) {
        std::memcpy(to + k * rows_.group_bytes, from + k * rows_.group_stride, rows_.group_bytes);
    }
}

void Halo::write_row(int row, const double *buffer) const {
    char *to = rows_.data + place_of(row) * rows_.stride;
    const char *from = reinterpret_cast<const char *>(buffer);
    for (int64_t k = 0; k < rows_.groups; ++k) {
        std::memcpy(to + k * rows_.group_stride, from + k * rows_.group_bytes, rows_.group_bytes);
    }
}

// Numbers for rows without edges that can be looked at by whatever goes over all rows.
void Halo::clear_row(int row) const {
    char *to = rows_.data + place_of(row) * rows_.stride;
    for (int64_t k = 0; k < rows_.groups; ++k) {
        std::memset(to + k * rows_.group_stride, 0, rows_.group_bytes);
    }
}

void Halo::add_to_row(int row, const double *buffer) const {
    char *to = rows_.data + place_of(row) * rows_.stride;
    const char *from = reinterpret_cast<const char *>(buffer);
    const auto add = rows_.single_precision ? add_numbers<float> : add_numbers<double>;
    for (int64_t k = 0; k < rows_.groups; ++k) {
        add(to + k * rows_.group_stride, from + k * rows_.group_bytes, rows_.group_bytes);
    }
}

void Halo::tell_senders(Message message, Travellers &travellers) {
    for (auto &[list, atoms] : travellers.atoms) {
        atoms.clear();
    }
    travellers_ = &travellers;
    message_ = message;
    comm->reverse_comm(pair_, 1);
    message_ = Message::rows;
}

// In a message about ghosts: once senders know which have rows, nothing is said of the others.
bool Halo::takes_part(int ghost) const {
    return message_ == Message::rows_of_ghosts || stands_for_row(ghost);
}

void Halo::renumber() {
    all_.atoms.clear();
    with_edges_.atoms.clear();
    all_.rows.assign(graph_.n_total() - graph_.n_local(), 1);
    tell_senders(Message::rows_of_ghosts, all_);
    if (is_staged_) {
        find_places();
    }
}

void Halo::choose(const torch::Tensor &edge_index) {
    if (is_staged_) {  // there the stage has all of them
        return;
    }
    const int64_t n_local = graph_.n_local(), n_edges = edge_index.size(1);
    with_edges_.rows.assign(all_.rows.size(), 0);
    const int32_t *senders = edge_index.data_ptr<int32_t>() + edge_index.stride(0);
    for (int64_t e = 0; e < n_edges; ++e) {
        if (senders[e] >= n_local) {
            with_edges_.rows[senders[e] - n_local] = 1;
        }
    }
    timer->stamp(LAMMPS_NS::Timer::PAIR);
    tell_senders(Message::rows_with_edges, with_edges_);
    timer->stamp(LAMMPS_NS::Timer::COMM);
}

void Halo::find_places() {
    places_.assign(graph_.n_total(), -1);
    std::vector<int64_t> border;
    for (const auto &[list, atoms] : all_.atoms) {
        for (const int atom : atoms) {
            const int row = graph_.row_of_atom()[atom];
            if (row < graph_.n_local() && places_[row] < 0) {
                places_[row] = static_cast<int>(border.size());
                border.push_back(row);
            }
        }
    }
    const auto first = static_cast<int>(border.size() - graph_.n_local());
    for (auto row = static_cast<int>(graph_.n_local()); row < graph_.n_total(); ++row) {
        places_[row] = first + row;
    }
    border_rows_ = torch::tensor(border, torch::kInt64);
}

// Memory of the host for the rows of this rank that others know, and the halo.
torch::Tensor Halo::make_stage(const torch::Tensor &rows) const {
    std::vector<int64_t> shape = rows.sizes().vec();
    shape[0] = border_rows_.size(0) + graph_.n_total() - graph_.n_local();
    const auto options = torch::dtype(rows.scalar_type()).pinned_memory(rows.is_cuda());
    return torch::empty(shape, options);
}

void Halo::exchange(const torch::Tensor &rows, int64_t n_local, bool forward) {
    is_staging_ = is_staged_;
    const torch::Tensor border = is_staging_ ? border_rows_.to(rows.device()) : torch::Tensor();
    const torch::Tensor halo = rows.narrow(0, n_local, rows.size(0) - n_local);
    const torch::Tensor stage = is_staging_ ? make_stage(rows) : rows;
    const int64_t n_border = is_staging_ ? border.size(0) : n_local;
    if (is_staging_ && forward) {
        stage.narrow(0, 0, n_border).copy_(rows.index_select(0, border));
    } else if (is_staging_) {
        stage.narrow(0, 0, n_border).zero_();
        stage.narrow(0, n_border, halo.size(0)).copy_(halo);
    }
    use(stage);
    if (rows_.doubles > 0) {
        timer->stamp(LAMMPS_NS::Timer::PAIR);
        if (forward) {
            comm->forward_comm(pair_, rows_.doubles);
        } else {
            comm->reverse_comm(pair_, rows_.doubles);
        }
        timer->stamp(LAMMPS_NS::Timer::COMM);
    }
    if (is_staging_ && forward) {
        halo.copy_(stage.narrow(0, n_border, halo.size(0)));
    } else if (is_staging_) {
        rows.narrow(0, 0, n_local)
            .index_add_(0, border, stage.narrow(0, 0, n_border).to(rows.device()));
    }
    is_staging_ = false;
}

void Halo::forward_to_all(std::vector<double> &values) {
    travellers_ = &all_;
    const auto n_total = static_cast<int64_t>(values.size());
    exchange(torch::from_blob(values.data(), {n_total, 1}, torch::kFloat64), graph_.n_local(),
             true);
}

void Halo::forward(const torch::Tensor &rows, int64_t n_local) {
    travellers_ = is_staged_ ? &all_ : &with_edges_;
    exchange(rows, n_local, true);
}

void Halo::reverse(const torch::Tensor &rows, int64_t n_local) {
    travellers_ = is_staged_ ? &all_ : &with_edges_;
    if (home_ == std::thread::id() || std::this_thread::get_id() == home_) {
        exchange(rows, n_local, false);
    } else {
        ask(rows, n_local);
    }
}

// ---- backward passes on other threads ----------------------------------------------------------

void Halo::ask(const torch::Tensor &rows, int64_t n_local) {
    Request request{&rows, n_local, nullptr};
    std::unique_lock<std::mutex> lock(mutex_);
    request_ = &request;
    changed_.notify_all();
    changed_.wait(lock, [&] { return request_ == nullptr; });
    if (request.failure) {
        std::rethrow_exception(request.failure);
    }
}

torch::Tensor Halo::serve(const std::function<torch::Tensor()> &backward) {
    if (!is_staged_) {
        return backward();
    }
    torch::Tensor result;
    std::exception_ptr failure;
    home_ = std::this_thread::get_id();
    is_done_ = false;
    const at::ThreadLocalState state;
    const int n_threads = at::get_num_threads();
    std::thread worker([&] {
        const at::ThreadLocalStateGuard guard(state);
        at::set_num_threads(n_threads);
        try {
            result = backward();
        } catch (...) {
            failure = std::current_exception();
        }
        const std::lock_guard<std::mutex> lock(mutex_);
        is_done_ = true;
        changed_.notify_all();
    });
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        changed_.wait(lock, [&] { return request_ != nullptr || is_done_; });
        if (request_ == nullptr) {
            break;
        }
        try {
            exchange(*request_->rows, request_->n_local, false);
        } catch (...) {
            request_->failure = std::current_exception();
        }
        request_ = nullptr;
        changed_.notify_all();
    }
    lock.unlock();
    worker.join();
    home_ = std::thread::id();
    if (failure) {
        std::rethrow_exception(failure);
    }
    return result;
}

// ---- LAMMPS' buffers ---------------------------------------------------------------------------

int Halo::pack_forward(int n, const int *list, double *buffer) {
    if (message_ == Message::owners) {
        for (int k = 0; k < n; ++k) {
            const Owner owner = graph_.owners()[list[k]];
            *buffer++ = owner.rank;
            *buffer++ = owner.row;
            *buffer++ = atom->type[list[k]];
        }
        return kNumbersOfOwner * n;
    }
    double *target = buffer;
    for (const int atom : travellers_->atoms.at(list)) {
        target[rows_.doubles - 1] = 0.0;  // an odd number of floats leaves half a double unused
        read_row(graph_.row_of_atom()[atom], target);
        target += rows_.doubles;
    }
    return static_cast<int>(target - buffer);
}

void Halo::unpack_forward(int n, int first, const double *buffer) {
    for (int ghost = first; ghost < first + n; ++ghost) {
        if (message_ == Message::owners) {
            graph_.owners()[ghost] = {static_cast<int>(buffer[0]), static_cast<int>(buffer[1])};
            atom->type[ghost] = static_cast<int>(buffer[2]);
            buffer += kNumbersOfOwner;
        } else if (travels(ghost)) {
            write_row(graph_.row_of_atom()[ghost], buffer);
            buffer += rows_.doubles;
        } else if (stands_for_row(ghost)) {
            clear_row(graph_.row_of_atom()[ghost]);
        }
    }
}

int Halo::pack_reverse(int n, int first, double *buffer) {
    double *target = buffer;
    for (int ghost = first; ghost < first + n; ++ghost) {
        if (message_ != Message::rows) {
            if (takes_part(ghost)) {
                *target++ = travels(ghost) ? 1.0 : 0.0;
            }
        } else if (travels(ghost)) {
            target[rows_.doubles - 1] = 0.0;
            read_row(graph_.row_of_atom()[ghost], target);
            target += rows_.doubles;
        }
    }
    return static_cast<int>(target - buffer);
}

void Halo::unpack_reverse(int n, const int *list, const double *buffer) {
    if (message_ == Message::rows_of_ghosts) {
        note_travellers({list, static_cast<size_t>(n)}, list, buffer);
    } else if (message_ == Message::rows_with_edges) {
        note_travellers(all_.atoms.at(list), list, buffer);
    } else {
        for (const int atom : travellers_->atoms.at(list)) {
            add_to_row(graph_.row_of_atom()[atom], buffer);
            buffer += rows_.doubles;
        }
    }
}

// An atom of another rank that is only passed on here travels as if this rank had asked for it.
void Halo::note_travellers(std::span<const int> asked, const int *list, const double *answers) {
    std::vector<int> &atoms = travellers_->atoms[list];
    for (const int atom : asked) {
        if (*answers++ != 0.0) {
            atoms.push_back(atom);
            const int64_t halo_row = graph_.row_of_atom()[atom] - graph_.n_local();
            if (halo_row >= 0) {
                travellers_->rows[halo_row] = 1;
            }
        }
    }
}

}  // namespace equicalc_lammps
