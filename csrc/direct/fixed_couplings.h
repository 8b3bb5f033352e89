// Couplings of features up to degree two with parity, those of the default network, as constants:
// kernels that know them when they are compiled keep everything in registers, and most
// coefficients are one.
#pragma once

#include <cstdint>

namespace equicalc::direct {

// Which of the tables below a coupling is, if any.
enum class FixedCoupling { none, square, product };

// Rows (target, path) ascend, terms by row; row = sum over its terms: factor left right, divided
// by the root of the path's number in `squares`.
struct FixedRow {
    int target, path;
};

struct FixedTerm {
    int row, left, right;
    double factor;
};

template <int kPaths, int kRows, int kTerms>
struct FixedTable {
    static constexpr int n_paths = kPaths, n_rows = kRows, n_terms = kTerms;
    double squares[kPaths];
    FixedRow rows[kRows];
    FixedTerm terms[kTerms];

    constexpr int first_row(int target) const {
        int row = 0;
        while (row < kRows && rows[row].target < target) {
            ++row;
        }
        return row;
    }
    constexpr int first_term(int row) const {
        int term = 0;
        while (term < kTerms && terms[term].row < row) {
            ++term;
        }
        return term;
    }
};

inline constexpr int kFixedComponents = 9;
inline constexpr double kThird = 0.57735026918962576;  // root of 1 / 3

// a x a
inline constexpr FixedTable<8, 24, 52> kSquare = {
    {3.0, 9.0, 15.0, 2.0, 20.0 / 3.0, 3.0, 1.5, 3.5},
    {{0, 0}, {0, 1}, {0, 2}, {1, 3}, {1, 4}, {2, 3}, {2, 4}, {3, 3},
     {3, 4}, {4, 5}, {4, 6}, {4, 7}, {5, 5}, {5, 6}, {5, 7}, {6, 5},
     {6, 6}, {6, 7}, {7, 5}, {7, 6}, {7, 7}, {8, 5}, {8, 6}, {8, 7}},
    {{0, 0, 0, 1},
     {1, 1, 1, 1},
     {1, 2, 2, 1},
     {1, 3, 3, 1},
     {2, 4, 4, 1},
     {2, 5, 5, 1},
     {2, 6, 6, 1},
     {2, 7, 7, 1},
     {2, 8, 8, 1},
     {3, 0, 1, 1},
     {4, 1, 6, -kThird},
     {4, 1, 8, -1},
     {4, 2, 5, 1},
     {4, 3, 4, 1},
     {5, 0, 2, 1},
     {6, 1, 5, 1},
     {6, 2, 6, 2 * kThird},
     {6, 3, 7, 1},
     {7, 0, 3, 1},
     {8, 1, 4, 1},
     {8, 2, 7, 1},
     {8, 3, 6, -kThird},
     {8, 3, 8, 1},
     {9, 0, 4, 1},
     {10, 1, 3, 1},
     {11, 4, 6, -2 * kThird},
     {11, 5, 7, 1},
     {12, 0, 5, 1},
     {13, 1, 2, 1},
     {14, 4, 7, 1},
     {14, 5, 6, kThird},
     {14, 5, 8, -1},
     {15, 0, 6, 1},
     {16, 1, 1, -0.5 * kThird},
     {16, 2, 2, kThird},
     {16, 3, 3, -0.5 * kThird},
     {17, 4, 4, -kThird},
     {17, 5, 5, 0.5 * kThird},
     {17, 6, 6, kThird},
     {17, 7, 7, 0.5 * kThird},
     {17, 8, 8, -kThird},
     {18, 0, 7, 1},
     {19, 2, 3, 1},
     {20, 4, 5, 1},
     {20, 6, 7, kThird},
     {20, 7, 8, 1},
     {21, 0, 8, 1},
     {22, 1, 1, -0.5},
     {22, 3, 3, 0.5},
     {23, 5, 5, -0.5},
     {23, 6, 8, -2 * kThird},
     {23, 7, 7, 0.5}}};

// a x b
inline constexpr FixedTable<11, 35, 83> kProduct = {
    {3.0, 9.0, 15.0, 4.0, 4.0, 40.0 / 3.0, 40.0 / 3.0, 4.0, 8.0, 4.0, 56.0 / 3.0},
    {{0, 0},  {0, 1}, {0, 2}, {1, 3},  {1, 4},  {1, 5}, {1, 6}, {2, 3}, {2, 4},
     {2, 5},  {2, 6}, {3, 3}, {3, 4},  {3, 5},  {3, 6}, {4, 7}, {4, 8}, {4, 9},
     {4, 10}, {5, 7}, {5, 8}, {5, 9},  {5, 10}, {6, 7}, {6, 8}, {6, 9}, {6, 10},
     {7, 7},  {7, 8}, {7, 9}, {7, 10}, {8, 7},  {8, 8}, {8, 9}, {8, 10}},
    {{0, 0, 0, 1},
     {1, 1, 1, 1},
     {1, 2, 2, 1},
     {1, 3, 3, 1},
     {2, 4, 4, 1},
     {2, 5, 5, 1},
     {2, 6, 6, 1},
     {2, 7, 7, 1},
     {2, 8, 8, 1},
     {3, 0, 1, 1},
     {4, 1, 0, 1},
     {5, 1, 6, -kThird},
     {5, 1, 8, -1},
     {5, 2, 5, 1},
     {5, 3, 4, 1},
     {6, 4, 3, 1},
     {6, 5, 2, 1},
     {6, 6, 1, -kThird},
     {6, 8, 1, -1},
     {7, 0, 2, 1},
     {8, 2, 0, 1},
     {9, 1, 5, 1},
     {9, 2, 6, 2 * kThird},
     {9, 3, 7, 1},
     {10, 5, 1, 1},
     {10, 6, 2, 2 * kThird},
     {10, 7, 3, 1},
     {11, 0, 3, 1},
     {12, 3, 0, 1},
     {13, 1, 4, 1},
     {13, 2, 7, 1},
     {13, 3, 6, -kThird},
     {13, 3, 8, 1},
     {14, 4, 1, 1},
     {14, 6, 3, -kThird},
     {14, 7, 2, 1},
     {14, 8, 3, 1},
     {15, 0, 4, 1},
     {16, 1, 3, 1},
     {16, 3, 1, 1},
     {17, 4, 0, 1},
     {18, 4, 6, -2 * kThird},
     {18, 5, 7, 1},
     {18, 6, 4, -2 * kThird},
     {18, 7, 5, 1},
     {19, 0, 5, 1},
     {20, 1, 2, 1},
     {20, 2, 1, 1},
     {21, 5, 0, 1},
     {22, 4, 7, 1},
     {22, 5, 6, kThird},
     {22, 5, 8, -1},
     {22, 6, 5, kThird},
     {22, 7, 4, 1},
     {22, 8, 5, -1},
     {23, 0, 6, 1},
     {24, 1, 1, -kThird},
     {24, 2, 2, 2 * kThird},
     {24, 3, 3, -kThird},
     {25, 6, 0, 1},
     {26, 4, 4, -2 * kThird},
     {26, 5, 5, kThird},
     {26, 6, 6, 2 * kThird},
     {26, 7, 7, kThird},
     {26, 8, 8, -2 * kThird},
     {27, 0, 7, 1},
     {28, 2, 3, 1},
     {28, 3, 2, 1},
     {29, 7, 0, 1},
     {30, 4, 5, 1},
     {30, 5, 4, 1},
     {30, 6, 7, kThird},
     {30, 7, 6, kThird},
     {30, 7, 8, 1},
     {30, 8, 7, 1},
     {31, 0, 8, 1},
     {32, 1, 1, -1},
     {32, 3, 3, 1},
     {33, 8, 0, 1},
     {34, 5, 5, -1},
     {34, 6, 8, -2 * kThird},
     {34, 7, 7, 1},
     {34, 8, 6, -2 * kThird}}};

}  // namespace equicalc::direct
