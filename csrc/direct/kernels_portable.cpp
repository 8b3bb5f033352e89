// Kernels for any processor, and the choice between them and those of the other two files.
#include "direct/kernels.h"
#include "vectors/instructions.h"

#define EQUICALC_ISA portable
#define EQUICALC_LANE_BYTES 16
#include "direct/kernel_table.h"

namespace equicalc::direct {
namespace {

template <typename T>
Kernels<T> choose() {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
    switch (instructions()) {
        case Instructions::avx512:
            return avx512::make<T>();
        case Instructions::avx2:
            return avx2::make<T>();
        case Instructions::portable:
            break;
    }
#endif
    return portable::make<T>();
}

}  // namespace

template <typename T>
const Kernels<T> &kernels() {
    static const Kernels<T> chosen = choose<T>();
    return chosen;
}

template const Kernels<float> &kernels<float>();
template const Kernels<double> &kernels<double>();

}  // namespace equicalc::direct
