// Kernels for processors with AVX2 and FMA.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include "direct/kernels.h"

#include <type_traits>
#include <utility>

#pragma GCC target("arch=x86-64-v3")
#define EQUICALC_ISA avx2
#define EQUICALC_LANE_BYTES 32
#include "direct/kernel_table.h"
#endif
