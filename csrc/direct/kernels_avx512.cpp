// Kernels for processors with AVX-512.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include "direct/kernels.h"

#include <type_traits>
#include <utility>

#pragma GCC target("arch=x86-64-v4")
#define EQUICALC_ISA avx512
#define EQUICALC_LANE_BYTES 64
#include "direct/kernel_table.h"
#endif
