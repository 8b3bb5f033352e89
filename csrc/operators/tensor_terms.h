// Which coupling coefficients of real spherical harmonics vanish.
#pragma once

#include "cuda/lanes.h"

namespace equicalc::kernels {

// Whether C[m1, m2, m3] may differ from zero; indices from 0 to 2 l. In cosines (m >= 0) and sines
// (m < 0) of multiples of an angle, one of them must be the sum of the others, and the number of
// sines even or odd as l1 + l2 + l3 is.
EQUICALC_BOTH constexpr bool couples(int l1, int m1, int l2, int m2, int l3, int m3) {
    const int k1 = m1 < l1 ? l1 - m1 : m1 - l1;
    const int k2 = m2 < l2 ? l2 - m2 : m2 - l2;
    const int k3 = m3 < l3 ? l3 - m3 : m3 - l3;
    const int sines = (m1 < l1) + (m2 < l2) + (m3 < l3);
    return (sines + l1 + l2 + l3) % 2 == 0 && (k1 + k2 == k3 || k2 + k3 == k1 || k3 + k1 == k2);
}

}  // namespace equicalc::kernels
