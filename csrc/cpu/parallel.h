// Threads of the CPU kernels: those of torch, without naming torch.
#pragma once
#include <cstdint>
#include <functional>

namespace fastcore {

// Calls body(first, last) on pieces of [begin, end), at least `grain` long, in parallel. Inside another
// parallel region, or for fewer than `grain` items, everything runs in the calling thread.
void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  const std::function<void(int64_t, int64_t)>& body);

int thread_count();

}  // namespace fastcore
