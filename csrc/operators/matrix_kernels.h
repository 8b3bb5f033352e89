// Products of many rows with one matrix, for channel mixing: rows are components of atoms, which
// lie at equal distances in memory, and matrices are small enough to stay in the cache.
#pragma once

#include <cstdint>

namespace equicalc::kernels {

// out[r, m, :] (+)= in[r, m, :] matrix, for atoms r and components m.
template <typename T>
struct ComponentProduct {
    const T *in;     // first number of the block of the first atom
    int64_t in_row;  // from one atom to the next
    int64_t n_in;    // channels, and from one component to the next
    T *out;
    int64_t out_row;
    int64_t n_out;
    const T *matrix;  // [n_in, n_out]
    int64_t n_components;
    bool add;  // to what is in `out`
};

void multiply(const ComponentProduct<float> &, int64_t n_atoms);
void multiply(const ComponentProduct<double> &, int64_t n_atoms);

}  // namespace equicalc::kernels
