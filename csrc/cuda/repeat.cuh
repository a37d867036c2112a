// Steps whose launches are the same again and again, queued as a CUDA graph of several steps where that can
// be had.
//
// On small data the host may take longer to queue a launch than the kernel runs; a graph of many launches it
// queues as one. What differs between two steps, such as the number of the pick, stands in device memory.
#pragma once
#include "simt.cuh"

namespace fastcore::cuda {

// A graph of launches, recorded on a stream of its own: on the legacy stream, which torch uses by default,
// nothing can be. Where anything fails there is none, and no error is left behind.
class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() { drop(); }

  explicit operator bool() const { return ready_ != nullptr; }

  // Records what `launches` queues on the stream that it is given, to be queued on `stream`.
  template <class Launches>
  void record(cudaStream_t stream, const Launches& launches) {
    cudaStreamCaptureStatus status;
    cudaStream_t side = nullptr;
    cudaGraph_t graph = nullptr;
    // Where the user records a graph, our launches become part of it.
    if (cudaStreamIsCapturing(stream, &status) == 0 && status == cudaStreamCaptureStatusNone &&
        cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking) == 0) {
      // Relaxed, since a kernel that was not used before may have to be loaded.
      if (cudaStreamBeginCapture(side, cudaStreamCaptureModeRelaxed) == 0) {
        launches(side);
        if (cudaStreamEndCapture(side, &graph) == 0 &&
            cudaGraphInstantiateWithFlags(&ready_, graph, 0) != 0) {
          ready_ = nullptr;
        }
        if (graph != nullptr) cudaGraphDestroy(graph);
      }
      cudaStreamDestroy(side);
    }
    if (ready_ == nullptr) cudaGetLastError();
  }

  // Queues all of it; false where that cannot be, and then there is no graph any more.
  bool queue(cudaStream_t stream) {
    if (cudaGraphLaunch(ready_, stream) == 0) return true;
    drop();
    cudaGetLastError();
    return false;
  }

 private:
  // One that is still running goes when it has ended.
  void drop() {
    if (ready_ != nullptr) cudaGraphExecDestroy(ready_);
    ready_ = nullptr;
  }

  cudaGraphExec_t ready_ = nullptr;
};

// Queues steps on a stream: `step` queues the launches of one on the stream that it is given.
// FASTCORE_GRAPHS=0 makes no graphs.
template <class Step>
class Repeated {
 public:
  Repeated(cudaStream_t stream, Step step) : stream_(stream), step_(step) {
    const char* const asked = std::getenv("FASTCORE_GRAPHS");
    refused_ = asked != nullptr && std::atoi(asked) == 0;
  }

  // Queues `count` more steps, and returns a cudaError_t.
  int queue(int64_t count) {
    while (count > 0) {
      // The first step shows whether its launches are right. Recording takes as long as to queue some steps.
      if (!refused_ && queued_ > 0 && queued_ + count >= 2 * kGraphSteps) {
        refused_ = true;  // once
        graph_.record(stream_, [this](cudaStream_t stream) {
          for (int64_t i = 0; i < kGraphSteps; ++i) step_(stream);
        });
      }
      if (graph_ && count >= kGraphSteps && graph_.queue(stream_)) {
        count -= kGraphSteps;
        continue;
      }
      step_(stream_);
      --count, ++queued_;
    }
    return launch_status();
  }

 private:
  const cudaStream_t stream_;
  const Step step_;
  Graph graph_;
  bool refused_;
  int64_t queued_ = 0;  // one by one
};

}  // namespace fastcore::cuda
