// Edges of receivers and of senders as rows, for groups of lanes.
#pragma once

#include "cuda/lanes.h"

namespace equicalc::groups {

// Of an edge, or of the end of the list: row starts of ascending keys. `bad` becomes one more than
// an edge whose key is out of order or range.
struct RowStarts {
    static constexpr bool kWarp = false;
    int64_t n_edges, n_rows;
    const int64_t *keys;
    int64_t *start, *bad;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &) const {
        const int64_t before = e == 0 ? -1 : keys[e - 1];
        const int64_t key = e == n_edges ? n_rows : keys[e];
        if (e < n_edges && (key < 0 || key >= n_rows || key < before)) {
            *bad = e + 1;
            return;
        }
        // a key before that is out of range has said so itself
        const int64_t first = before < -1 ? 0 : before + 1;
        for (int64_t row = first; row <= key; ++row) {
            start[row] = e;
        }
    }
};

// Of an edge: `bad` as above, of an edge between atoms that there are not, too.
struct EdgeCheck {
    static constexpr bool kWarp = false;
    int64_t n_edges, n_atoms;
    const int64_t *index;  // [2, n_edges]
    int64_t *bad;

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &) const {
        const int64_t receiver = index[e], sender = index[n_edges + e];
        const int64_t before = e > 0 ? index[e - 1] : 0;
        if (receiver < before || receiver >= n_atoms || sender < 0 || sender >= n_atoms) {
            *bad = e + 1;
        }
    }
};

// Of an edge with room for more: itself or, as long as the cutoff, from an atom that nobody sees to
// itself; those atoms come after all others and get equal numbers of edges. After a bad edge all
// are of that kind, so that whoever goes on does not leave the memory of the graph.
template <typename T>
struct PaddedEdges {
    static constexpr bool kWarp = false;
    int64_t n_edges, room, n_atoms, n_unseen;
    double cutoff;
    const int64_t *index;   // [2, n_edges]
    const double *vectors;  // [n_edges, 3]
    const int64_t *bad;     // of EdgeCheck
    int64_t *padded_index;  // [2, room]
    T *padded_vectors;      // [room, 3]

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t e, const Group &) const {
        const int64_t n_good = *bad == 0 ? n_edges : 0;
        const bool is_edge = e < n_good;
        const int64_t unseen = n_atoms + (is_edge ? 0 : (e - n_good) * n_unseen / (room - n_good));
        padded_index[e] = is_edge ? index[e] : unseen;
        padded_index[room + e] = is_edge ? index[n_edges + e] : unseen;
        for (int x = 0; x < 3; ++x) {
            padded_vectors[3 * e + x] =
                static_cast<T>(is_edge ? vectors[3 * e + x] : (x == 0 ? cutoff : 0.0));
        }
    }
};

template <typename Registry>
void add_graphs() {
    Registry::template add<RowStarts>();
    Registry::template add<EdgeCheck>();
    Registry::template add<PaddedEdges<float>>();
    Registry::template add<PaddedEdges<double>>();
}

}  // namespace equicalc::groups
