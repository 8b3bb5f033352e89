// Edges of receivers and of senders as rows, for groups of lanes.
#pragma once

#include "lanes.h"

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

template <typename Registry>
void add_graphs() {
    Registry::template add<RowStarts>();
}

}  // namespace equicalc::groups
