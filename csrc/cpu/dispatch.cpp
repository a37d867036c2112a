#include "cpu/dispatch.h"

#include "cpu/isa.h"

namespace fastcore::cpu {

#define FASTCORE_DECLARE(op, Args) void op(const Args& args);
namespace base {
FASTCORE_OPS(FASTCORE_DECLARE)
FASTCORE_CPU_OPS(FASTCORE_DECLARE)
}  // namespace base
namespace v3 {
FASTCORE_OPS(FASTCORE_DECLARE)
FASTCORE_CPU_OPS(FASTCORE_DECLARE)
}  // namespace v3

#ifdef FASTCORE_HAS_V3
static bool use_v3() {
  static const bool chosen = std::strcmp(instruction_set(), "v3") == 0;
  return chosen;
}
#define FASTCORE_DISPATCH(op, Args) \
  void op(const Args& args) { use_v3() ? v3::op(args) : base::op(args); }
#else
#define FASTCORE_DISPATCH(op, Args) \
  void op(const Args& args) { base::op(args); }
#endif
FASTCORE_OPS(FASTCORE_DISPATCH)
FASTCORE_CPU_OPS(FASTCORE_DISPATCH)

}  // namespace fastcore::cpu
