// The edges of a moving structure from its pairs, without the host knowing how many there are: in
// the order of receivers and with the rows of receivers and senders, and room for more.
#pragma once

#include "cuda/edges.h"
#include "cuda/lanes.h"

namespace equicalc::groups {

// Of a pair: its vector and whether it is an edge, in the order of receivers and in that of
// senders.
struct PairFlags {
    static constexpr bool kWarp = false;
    int64_t room;  // for pairs
    double cutoff;
    const double *positions, *cell;  // [n, 3], [3, 3]
    const int64_t *n_pairs;
    const int64_t *points;  // [2, room], positions of receivers and senders
    const int32_t *shifts;  // [room, 3]
    const int64_t *rank;    // [room], places in the order of senders
    double *vectors;        // [room, 3]
    int32_t *flags;         // [2, room]

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t pair, const Group &) const {
        if (pair >= *n_pairs) {
            flags[pair] = flags[room + pair] = 0;
            return;
        }
        const double square =
            pair_vector(positions + 3 * points[pair], positions + 3 * points[room + pair],
                        shifts + 3 * pair, cell, vectors + 3 * pair);
        flags[pair] = flags[room + rank[pair]] = square < cutoff * cutoff ? 1 : 0;
    }
};

// Of whatever has this number (a pair, an edge, a row): edges from the running sums of flags. Edges
// that there is room for and that do not exist are as long as the cutoff, from atoms that nobody
// sees to themselves; those atoms come after all others and get equal numbers of edges. With more
// edges than there is room for all are of that kind.
template <typename T>
struct ChosenEdges {
    static constexpr bool kWarp = false;
    int64_t pair_room, room, n_atoms, n_unseen;
    double cutoff;
    const int64_t *n_pairs;
    const int64_t *rows, *order;                      // [2, pair_room], pairs by sender [pair_room]
    const int64_t *pair_starts, *pair_sender_starts;  // [n_atoms + 1]
    const int32_t *counts;                            // [2, pair_room], running sums of flags
    const double *pair_vectors;                       // [pair_room, 3]
    int64_t *index;                                   // [2, room]
    T *vectors;                                       // [room, 3]
    double *exact_vectors;                            // the same
    int64_t *starts, *sender_starts;                  // [n_atoms + n_unseen + 1]
    int64_t *sender_edges;                            // [room]
    int64_t *n_found;                                 // [1], of edges, room or not

    EQUICALC_BOTH int64_t n_items() const {
        const int64_t n_rows = n_atoms + n_unseen + 1;
        const int64_t most = pair_room > room ? pair_room : room;
        return most > n_rows ? most : n_rows;
    }

    template <typename Group>
    EQUICALC_BOTH void operator()(int64_t item, const Group &) const {
        const int64_t found = counts[pair_room - 1];
        const int64_t n_edges = found > room ? 0 : found;
        if (item == 0) {
            *n_found = found;
        }
        if (item < *n_pairs && n_edges > 0) {
            choose(item, n_edges);
        }
        if (item >= n_edges && item < room) {
            pad(item, n_edges);
        }
        if (item <= n_atoms + n_unseen) {
            begin_rows(item, n_edges);
        }
    }

    EQUICALC_BOTH void choose(int64_t item, int64_t n_edges) const {
        if (counts[item] > (item == 0 ? 0 : counts[item - 1])) {
            const int64_t e = counts[item] - 1;
            index[e] = rows[item];
            index[room + e] = rows[pair_room + item];
            for (int x = 0; x < 3; ++x) {
                exact_vectors[3 * e + x] = pair_vectors[3 * item + x];
                vectors[3 * e + x] = static_cast<T>(pair_vectors[3 * item + x]);
            }
        }
        const int32_t *by_sender = counts + pair_room;
        if (by_sender[item] > by_sender[item - 1]) {  // the first follows the last of the others
            sender_edges[by_sender[item] - n_edges - 1] = counts[order[item]] - 1;
        }
    }

    EQUICALC_BOTH void pad(int64_t e, int64_t n_edges) const {
        const int64_t unseen = n_atoms + (e - n_edges) * n_unseen / (room - n_edges);
        index[e] = index[room + e] = unseen;
        sender_edges[e] = e;
        for (int x = 0; x < 3; ++x) {
            exact_vectors[3 * e + x] = x == 0 ? cutoff : 0.0;
            vectors[3 * e + x] = static_cast<T>(x == 0 ? cutoff : 0.0);
        }
    }

    EQUICALC_BOTH void begin_rows(int64_t row, int64_t n_edges) const {
        if (row > n_atoms) {
            // the first edge whose row, by the division above, is not below this one
            const int64_t unseen = row - n_atoms;
            starts[row] = sender_starts[row] =
                n_edges + (unseen * (room - n_edges) + n_unseen - 1) / n_unseen;
            return;
        }
        const int64_t first = pair_starts[row], first_sent = pair_sender_starts[row];
        const bool is_empty = n_edges == 0;
        starts[row] = is_empty || first == 0 ? 0 : counts[first - 1];
        sender_starts[row] =
            is_empty || first_sent == 0 ? 0 : counts[pair_room + first_sent - 1] - n_edges;
    }
};

template <typename Registry>
void add_pairs() {
    Registry::template add<PairFlags>();
    Registry::template add<ChosenEdges<float>>();
    Registry::template add<ChosenEdges<double>>();
}

}  // namespace equicalc::groups
