#include "vectors/instructions.h"

#include <cstdlib>
#include <string>

#include "equicalc.h"
#include "vectors/targets.h"

namespace equicalc {
namespace {

constexpr Instructions kFromBest[] = {Instructions::avx512, Instructions::avx2,
                                      Instructions::portable};

bool is_supported(Instructions kind) {
#if EQUICALC_X86
    __builtin_cpu_init();
    switch (kind) {
        case Instructions::avx512:
            return __builtin_cpu_supports("x86-64-v4");
        case Instructions::avx2:
            return __builtin_cpu_supports("x86-64-v3");
        case Instructions::portable:
            break;
    }
#endif
    return kind == Instructions::portable;
}

Instructions choose() {
    const char *variable = std::getenv("EQUICALC_INSTRUCTIONS");
    const std::string wanted = variable == nullptr ? "" : variable;
    std::string here;
    for (const Instructions kind : kFromBest) {
        if (!is_supported(kind)) {
            continue;
        }
        if (wanted.empty() || wanted == name_of(kind)) {
            return kind;
        }
        here += (here.empty() ? "" : ", ") + std::string(name_of(kind));
    }
    throw Error("equicalc: the environment variable EQUICALC_INSTRUCTIONS is '" + wanted +
                "', and kernels can use on this processor: " + here +
                ". Type: unset EQUICALC_INSTRUCTIONS");
}

}  // namespace

Instructions instructions() {
    static const Instructions chosen = choose();
    return chosen;
}

const char *name_of(Instructions kind) {
    switch (kind) {
        case Instructions::avx512:
            return "avx512";
        case Instructions::avx2:
            return "avx2";
        case Instructions::portable:
            break;
    }
    return "portable";
}

}  // namespace equicalc
