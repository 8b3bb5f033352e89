// Vector instructions that kernels use.
#pragma once

namespace equicalc {

enum class Instructions { portable, avx2, avx512 };

// The best that this processor has, or those that the environment variable EQUICALC_INSTRUCTIONS
// names; read once. Throws Error when the name is unknown or the processor lacks them.
Instructions instructions();
const char *name_of(Instructions kind);

}  // namespace equicalc
