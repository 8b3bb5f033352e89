#include "direct/buffer.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace equicalc::direct {
namespace {

// Of x86-64; a larger alignment than needed does no harm elsewhere.
constexpr int64_t kLargePage = int64_t(2) << 20;

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

void *allocate(int64_t bytes) {
    const bool large = bytes >= 2 * kLargePage;
    const int64_t unit = large ? kLargePage : 64;
    const int64_t size = round_up(bytes > 0 ? bytes : 1, unit);
    void *memory = std::aligned_alloc(unit, size);
#if defined(__linux__)
    if (large && memory != nullptr) {
        madvise(memory, size, MADV_HUGEPAGE);  // a wish: without it everything works, slower
    }
#endif
    return memory;
}

}  // namespace equicalc::direct
