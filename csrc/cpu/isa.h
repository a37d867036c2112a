// Which of the compiled instruction sets this machine can run.
#pragma once
#include <cstdlib>
#include <cstring>

namespace fastcore::cpu {

// FASTCORE_ISA=base in the environment keeps a better machine on the plain kernels.
inline const char* instruction_set() {
#ifdef FASTCORE_HAS_V3
  const char* wanted = std::getenv("FASTCORE_ISA");
  const bool forced_base = wanted != nullptr && std::strcmp(wanted, "base") == 0;
  // Every processor with these has the rest of x86-64-v3 as well.
  if (!forced_base && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2")) {
    return "v3";
  }
#endif
  return "base";
}

}  // namespace fastcore::cpu
