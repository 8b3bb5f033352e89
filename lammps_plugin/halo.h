// Node features across ranks, through the ghost communication of LAMMPS.
//
// LAMMPS sends ghosts in several swaps; a ghost received in one swap may be sent on in the next.
// Features and gradients travel for the first ghost of every row alone, not for its other images
// and not for images of a rank's own atoms: buffers and messages hold fewer rows than LAMMPS has
// ghosts. Going forward the first ghost arrives in the earliest swap, before the row can be sent
// on. In reverse order it is sent last, after every gradient that passes through the row has been
// added. With each new neighbour list receivers tell senders which ghosts these are; and on each
// step, by one number for each of them, which have edges: those beyond the cutoff, in the skin,
// stay at home.
#pragma once

#include "atom_graph.h"
#include "equicalc.h"

#include "pointers.h"

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <unordered_map>
#include <vector>

namespace LAMMPS_NS {
class Pair;
}

namespace equicalc_lammps {

class Halo : public equicalc::HaloExchange, protected LAMMPS_NS::Pointers {
  public:
    // `pair` is the style whose pack and unpack functions LAMMPS calls; it passes them on to here.
    // Staged: features may be on another device, where the rows that travel are gathered and
    // scattered; they go through memory of the host.
    Halo(LAMMPS_NS::LAMMPS *lmp, LAMMPS_NS::Pair *pair, AtomGraph &graph, bool is_staged);
    ~Halo() noexcept override {}  // Pointers may throw there, HaloExchange must not

    // Doubles per atom in LAMMPS' buffers for features of this width.
    static int buffer_size(int64_t width, int64_t bytes_per_number);

    // Collective, after number_local_atoms: fills in the owners of the ghosts, and their types,
    // which `set type` and `fix set` change for owners alone.
    void find_owners();
    static constexpr int kNumbersOfOwner = 3;  // rank, row, type
    // Collective, after all rows were given: which ghosts have rows.
    void renumber();
    // Collective, with the edges of a step, before features travel: which of them are needed.
    void choose(const torch::Tensor &edge_index);

    // One number for each row of this rank and its halo, with edges or not.
    void forward_to_all(std::vector<double> &values);
    void forward(const torch::Tensor &rows, int64_t n_local) override;
    void reverse(const torch::Tensor &rows, int64_t n_local) override;

    // Runs a backward pass in which `reverse` may be called on any thread, as autograd does where
    // features are not on the CPU: all communication stays on this thread, MPI knows of no other.
    torch::Tensor serve(const std::function<torch::Tensor()> &backward);

    int pack_forward(int n, const int *list, double *buffer);
    void unpack_forward(int n, int first, const double *buffer);
    int pack_reverse(int n, int first, double *buffer);
    void unpack_reverse(int n, const int *list, const double *buffer);

  private:
    // The rows of the running forward or reverse call: groups of numbers, with gaps between them.
    struct Rows {
        char *data = nullptr;
        int64_t stride = 0, groups = 0, group_stride = 0;  // bytes, but for the number of groups
        int group_bytes = 0;
        int doubles = 0;  // of a row in LAMMPS' buffers
        bool single_precision = false;
    };

    // A call of `reverse` on another thread.
    struct Request {
        const torch::Tensor *rows = nullptr;
        int64_t n_local = 0;
        std::exception_ptr failure;
    };

    // What LAMMPS' communication carries.
    enum class Message { owners, rows_of_ghosts, rows_with_edges, rows };

    // Whose rows travel.
    struct Travellers {
        std::vector<char> rows;  // of the halo, whether they do
        // Of each of LAMMPS' lists of atoms to send, those that do. The lists stay while atoms and
        // ghosts do, which the pair style looks after.
        std::unordered_map<const int *, std::vector<int>> atoms;
    };

    bool stands_for_row(int ghost) const;
    bool travels(int ghost) const;
    void tell_senders(Message message, Travellers &travellers);
    bool takes_part(int ghost) const;
    void note_travellers(std::span<const int> asked, const int *list, const double *answers);
    void find_places();
    void use(const torch::Tensor &rows);
    void exchange(const torch::Tensor &rows, int64_t n_local, bool forward);
    torch::Tensor make_stage(const torch::Tensor &rows) const;
    void ask(const torch::Tensor &rows, int64_t n_local);
    // Where a row of the graph is in the memory that LAMMPS' buffers are filled from.
    int64_t place_of(int row) const { return is_staging_ ? places_[row] : row; }
    void read_row(int row, double *buffer) const;
    void write_row(int row, const double *buffer) const;
    void clear_row(int row) const;
    void add_to_row(int row, const double *buffer) const;

    LAMMPS_NS::Pair *pair_;
    AtomGraph &graph_;
    bool is_staged_;
    Message message_ = Message::rows;
    bool is_staging_ = false;
    Rows rows_;
    Travellers all_, with_edges_;
    Travellers *travellers_ = &all_;  // of the running call
    // Of a staged exchange: the rows of those atoms that are this rank's own, and the place of
    // every row in the stage: first those, then the halo.
    torch::Tensor border_rows_;
    std::vector<int> places_;
    // Of a backward pass on another thread.
    std::thread::id home_;
    std::mutex mutex_;
    std::condition_variable changed_;
    Request *request_ = nullptr;
    bool is_done_ = false;
};

}  // namespace equicalc_lammps
