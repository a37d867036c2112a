// Streams, graphs of launches and errors of the stand-in.
//
// What is queued on a stream runs at once, unless the stream is being recorded; a graph runs what was
// recorded. FASTCORE_SIMT_FAILS names a function of the runtime that fails, or fails from its second call on
// with "2" behind the name, and leaves its error behind as CUDA does. Objects are counted, so that none is
// forgotten.
#pragma once
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace simt {

struct Graph {
  std::vector<std::function<void()>> launches;
};

struct Stream {
  Graph* recorded = nullptr;
};

// What happened so far.
struct Runtime {
  int error = 0;
  int objects = 0;  // streams and graphs that are there
  int graphs = 0;   // launched
  int launches = 0;
  std::string failed;
};

inline thread_local Runtime runtime;

// The error of a call of the runtime.
inline int called(const char* function) {
  const char* const asked = std::getenv("FASTCORE_SIMT_FAILS");
  const std::string name = asked == nullptr ? "" : asked;
  const bool first = name == function, later = name == std::string(function) + "2";
  if (later && runtime.failed != name) {
    runtime.failed = name;
    return 0;
  }
  return first || later ? runtime.error = 1 : 0;
}

}  // namespace simt

using cudaError_t = int;
using cudaStream_t = void*;
using cudaGraph_t = simt::Graph*;
using cudaGraphExec_t = simt::Graph*;
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed };
constexpr unsigned cudaStreamNonBlocking = 1;

namespace simt {

template <class Launch>
void queue(cudaStream_t stream, Launch launch) {
  Graph* const graph = stream == nullptr ? nullptr : static_cast<Stream*>(stream)->recorded;
  if (graph != nullptr) {
    graph->launches.push_back(launch);
  } else {
    ++runtime.launches;
    launch();
  }
}

}  // namespace simt

inline cudaError_t cudaGetLastError() { return std::exchange(simt::runtime.error, 0); }

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (const int error = simt::called("cudaStreamCreateWithFlags")) return error;
  ++simt::runtime.objects;
  *stream = new simt::Stream;
  return 0;
}

inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  --simt::runtime.objects;
  delete static_cast<simt::Stream*>(stream);
  return 0;
}

inline cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  if (const int error = simt::called("cudaStreamIsCapturing")) return error;
  const bool recorded = stream != nullptr && static_cast<simt::Stream*>(stream)->recorded != nullptr;
  *status = recorded ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return 0;
}

inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr) return simt::runtime.error = 1;  // the legacy stream cannot be recorded
  if (const int error = simt::called("cudaStreamBeginCapture")) return error;
  ++simt::runtime.objects;
  static_cast<simt::Stream*>(stream)->recorded = new simt::Graph;
  return 0;
}

inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  --simt::runtime.objects;
  delete graph;
  return 0;
}

inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(static_cast<simt::Stream*>(stream)->recorded, nullptr);
  if (const int error = simt::called("cudaStreamEndCapture")) {
    cudaGraphDestroy(std::exchange(*graph, nullptr));
    return error;
  }
  return 0;
}

inline cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* ready, cudaGraph_t graph,
                                                 unsigned long long) {
  *ready = reinterpret_cast<cudaGraphExec_t>(1);  // on failure, too, as CUDA may
  if (const int error = simt::called("cudaGraphInstantiateWithFlags")) return error;
  ++simt::runtime.objects;
  *ready = new simt::Graph(*graph);
  return 0;
}

inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) { return cudaGraphDestroy(ready); }

inline cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t stream) {
  if (const int error = simt::called("cudaGraphLaunch")) return error;
  ++simt::runtime.graphs;
  for (const auto& launch : ready->launches) simt::queue(stream, launch);
  return 0;
}
