// How the native library beside this module was built, and what it uses on this machine.
#include <pybind11/pybind11.h>

#include <cstdint>

#include "cpu/isa.h"

// torch's C interface; the header that declares it would take longer to compile than all of this file.
extern "C" int32_t torch_get_num_threads(uint32_t* threads);

PYBIND11_MODULE(_info, module) {
  module.doc() = "Facts about the native library of fastcore.";
  module.def(
      "build_info",
      [] {
        uint32_t threads = 0;
        if (torch_get_num_threads(&threads) != 0) threads = 1;
        pybind11::dict info;
        info["compiler"] = __VERSION__;
        info["flags"] = FASTCORE_FLAGS;
        info["cuda"] = FASTCORE_CUDA_VERSION;
        info["cuda_archs"] = FASTCORE_CUDA_ARCHS;
#ifdef FASTCORE_HAS_V3
        info["instruction_sets"] = pybind11::make_tuple("base", "v3");
#else
        info["instruction_sets"] = pybind11::make_tuple("base");
#endif
        info["instruction_set"] = fastcore::cpu::instruction_set();
        info["threads"] = threads;
        return info;
      },
      "Compiler, flags, CUDA version and architectures ('' without CUDA), instruction sets compiled and "
      "used, "
      "threads.");
}
