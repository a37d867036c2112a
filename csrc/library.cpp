// The torch ops: schemas, argument checks and registration, through torch's stable ABI.
//
// Built by the host compiler, never by nvcc. With FASTCORE_CUDA the CUDA launchers are registered beside the
// CPU kernels; with FASTCORE_SIMT (tests) they are compiled by the host compiler and registered as CPU
// kernels of the namespace `fastcore_simt`.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "checks.h"
#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#if defined(FASTCORE_CUDA) || defined(FASTCORE_SIMT)
#include "cuda/launch.h"
#endif

#ifdef FASTCORE_SIMT
#define FASTCORE_NAMESPACE fastcore_simt
#else
#define FASTCORE_NAMESPACE fastcore
#endif
// One more level, so that the namespace macro is expanded first.
#define FASTCORE_LIBRARY(name, library) STABLE_TORCH_LIBRARY(name, library)
#define FASTCORE_LIBRARY_IMPL(name, device, library) STABLE_TORCH_LIBRARY_IMPL(name, device, library)

namespace fastcore {

void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  const std::function<void(int64_t, int64_t)>& body) {
  torch::stable::parallel_for(begin, end, grain, body);
}

int thread_count() { return static_cast<int>(torch::stable::get_num_threads()); }

}  // namespace fastcore

#ifdef FASTCORE_CUDA
extern "C" {
// Only in a torch built for CUDA. Weak, so that the same library loads beside a CPU torch.
__attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);
const char* cudaGetErrorString(int error);
int cudaSetDevice(int device);
}
#endif

namespace fastcore {
namespace {

// ---- where an op runs: run(arguments, a tensor on the device) ------------------------------------------

#if defined(FASTCORE_CUDA) || defined(FASTCORE_SIMT)
// What a launcher needs, with memory that is given back, in the order of the stream, when the call ends.
class Launch {
 public:
  Launch(const Tensor& tensor, void* stream)
      : queue{stream, [this, &tensor](int64_t bytes) {
                held_.push_back(torch::stable::new_empty(tensor, {bytes}, ScalarType::Byte));
#ifdef FASTCORE_SIMT
                torch::stable::fill_(held_.back(), 0xFF);  // what nobody wrote is NaN
#endif
                return held_.back().data_ptr();
              }} {
  }

  const cuda::Queue queue;

 private:
  std::vector<Tensor> held_;
};
#endif

#ifndef FASTCORE_SIMT
struct Cpu {
#define FASTCORE_RUN(op, Args) \
  static void run(const Args& args, const Tensor&) { cpu::op(args); }
  FASTCORE_OPS(FASTCORE_RUN)
  FASTCORE_CPU_OPS(FASTCORE_RUN)
#undef FASTCORE_RUN
};
#endif

#ifdef FASTCORE_CUDA
struct Cuda {
  static void* stream_of(const Tensor& tensor) {
    if (aoti_torch_get_current_cuda_stream == nullptr) throw std::runtime_error("this torch has no CUDA");
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    return stream;
  }
#define FASTCORE_RUN(op, Args)                                                                  \
  static void run(const Args& args, const Tensor& tensor) {                                     \
    const torch::stable::accelerator::DeviceGuard guard(tensor.get_device_index());             \
    int error = cudaSetDevice(tensor.get_device_index()); /* of our own copy of the runtime */  \
    const Launch launch(tensor, stream_of(tensor));                                             \
    if (error == 0) error = cuda::op(args, launch.queue);                                       \
    Call(#op, tensor).check(error == 0, "CUDA error ", error, ": ", cudaGetErrorString(error)); \
  }
  FASTCORE_OPS(FASTCORE_RUN)
  FASTCORE_CUDA_OPS(FASTCORE_RUN)
#undef FASTCORE_RUN
};
#endif

#ifdef FASTCORE_SIMT
struct Simt {
#define FASTCORE_RUN(op, Args)                                                   \
  static void run(const Args& args, const Tensor& tensor) {                      \
    const Launch launch(tensor, nullptr);                                        \
    const int error = cuda::op(args, launch.queue);                              \
    Call(#op, tensor).check(error == 0, "the launch failed with error ", error); \
  }
  FASTCORE_OPS(FASTCORE_RUN)
  FASTCORE_CUDA_OPS(FASTCORE_RUN)
#undef FASTCORE_RUN
};
#endif

// ---- glue: tensors to argument structs -----------------------------------------------------------------

// BIND(name, sizes...) checks the tensor `name` against the sizes and stores its pointer in `args.name`.
#define BIND(name, ...) call.bind(args.name, #name, name, {__VA_ARGS__})
#define BIND_COLUMNS(name) call.bind_columns(args.name, #name, name, {sets, rows}, args.state_stride)

template <class Backend>
Tensor project(const Tensor& features, const Tensor& direction) {
  const Call call("project", features);
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  Project args{};
  BIND(features, sets, rows, width);
  BIND(direction, sets, width);
  Tensor out = call.make(args.out, {sets, rows});
  args.sets = sets, args.rows = rows, args.width = width;
  Backend::run(args, features);
  return out;
}

template <class Backend>
Tensor squared_norms(const Tensor& features) {
  const Call call("squared_norms", features);
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  SquaredNorms args{};
  BIND(features, sets, rows, width);
  Tensor out = call.make(args.out, {sets, rows});
  args.sets = sets, args.rows = rows, args.width = width;
  Backend::run(args, features);
  return out;
}

template <class Backend>
Tensor weighted_sum(const Tensor& features, const Tensor& weights) {
  const Call call("weighted_sum", features);
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  WeightedSum args{};
  BIND(features, sets, rows, width);
  BIND(weights, sets, rows);
  Tensor out = call.make(args.out, {sets, width});
  args.sets = sets, args.rows = rows, args.width = width;
  Backend::run(args, features);
  return out;
}

template <class Backend>
void nearest_update(const Tensor& products, const Tensor& row_norms, const Tensor& pick_norms, Tensor nearest,
                    Tensor owner, Tensor second, int64_t offset) {
  const Call call("nearest_update", products);
  const auto [sets, rows, picks] = call.sizes<3>("products", products);
  call.sizes<2>("nearest", nearest);
  NearestUpdate args{};
  args.state_stride = sets > 1 ? nearest.stride(0) : rows;
  BIND(products, sets, rows, picks);
  BIND(pick_norms, sets, picks);
  BIND_COLUMNS(nearest);
  BIND_COLUMNS(row_norms);
  BIND_COLUMNS(owner);
  BIND_COLUMNS(second);
  args.sets = sets, args.rows = rows, args.picks = picks, args.offset = offset;
  Backend::run(args, products);
}

// Kernels write as many picks as a set's budget says. On CUDA a look at the numbers would cost a wait.
void check_budgets(const Call& call, const Tensor& budgets, const int64_t* values, int64_t sets,
                   int64_t most) {
  if (!budgets.is_cpu()) return;
  for (int64_t g = 0; g < sets; ++g) {
    call.check(values[g] <= most, "budgets must be at most most = ", most, ", got ", values[g]);
  }
}

// The picks and gains of every op that picks: -1 and 0 where a set ends early.
template <class Args>
std::tuple<Tensor, Tensor> make_picks(const Call& call, Args& args, int64_t sets, int64_t most) {
  return {call.make(args.picks, {sets, most}, -1), call.make(args.gains, {sets, most}, 0)};
}

// What every block op takes besides its values: row_ids, budgets, outside, outside_row; and its outputs.
template <class Args>
std::tuple<Tensor, Tensor> bind_block(const Call& call, Args& args, const Tensor& row_ids,
                                      const Tensor& budgets, const Tensor& outside, const Tensor& outside_row,
                                      int64_t most) {
  const auto [sets, block] = call.sizes<2>("row_ids", row_ids);
  BIND(row_ids, sets, block);
  BIND(budgets, sets);
  BIND(outside, sets);
  BIND(outside_row, sets);
  call.check(0 <= most && most <= block, "most must be between 0 and the block of ", block, ", got ", most);
  args.sets = sets, args.block = block, args.most = most;
  check_budgets(call, budgets, args.budgets, sets, most);
  return make_picks(call, args, sets, most);
}

template <class Backend>
std::tuple<Tensor, Tensor> farthest_first_block(const Tensor& distances, Tensor nearest,
                                                const Tensor& row_ids, const Tensor& budgets,
                                                const Tensor& outside, const Tensor& outside_row,
                                                int64_t most) {
  const Call call("farthest_first_block", distances);
  FarthestFirstBlock args{};
  auto [picks, gains] = bind_block(call, args, row_ids, budgets, outside, outside_row, most);
  const int64_t sets = args.sets, block = args.block;
  call.bind_real(args.distances, args.distances_double, "distances", distances, {sets, block, block});
  BIND(nearest, sets, block);
  Backend::run(args, distances);
  return {picks, gains};
}

template <class Backend>
std::tuple<Tensor, Tensor> graph_cut_block(const Tensor& similarity, Tensor values, const Tensor& row_ids,
                                           const Tensor& budgets, const Tensor& outside,
                                           const Tensor& outside_row, const Tensor& floor, double penalty,
                                           int64_t most) {
  const Call call("graph_cut_block", similarity);
  GraphCutBlock args{};
  auto [picks, gains] = bind_block(call, args, row_ids, budgets, outside, outside_row, most);
  const int64_t sets = args.sets, block = args.block;
  call.bind_real(args.similarity, args.similarity_double, "similarity", similarity, {sets, block, block});
  BIND(values, sets, block);
  BIND(floor, sets);
  args.penalty = penalty;
  Backend::run(args, similarity);
  return {picks, gains};
}

template <class Backend>
std::tuple<Tensor, Tensor, Tensor> linear_cut(const Tensor& features, std::optional<Tensor> second,
                                              const Tensor& scale, const Tensor& coordinates, Tensor values,
                                              const Tensor& budgets, const Tensor& floor, double penalty,
                                              double error, int64_t most) {
  const Call call("linear_cut", features);
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  call.check(0 <= most && most <= rows, "most must be between 0 and the ", rows, " rows, got ", most);
  LinearCut args{};
  BIND(features, sets, rows, width);
  if (second) {
    args.second_width = call.sizes<3>("second", *second)[2];
    call.bind(args.second, "second", *second, {sets, rows, args.second_width});
  }
  BIND(scale, sets, rows);
  args.directions = call.sizes<3>("coordinates", coordinates)[1] - 1;
  call.check(args.directions > 0, "coordinates must be those along a direction, and the rest");
  BIND(coordinates, sets, args.directions + 1, rows);
  BIND(values, sets, rows);
  BIND(budgets, sets);
  BIND(floor, sets);
  check_budgets(call, budgets, args.budgets, sets, most);
  auto [picks, gains] = make_picks(call, args, sets, most);
  Tensor evaluations = call.make(args.evaluations, {sets}, 0);
  args.penalty = penalty, args.error = error;
  args.sets = sets, args.rows = rows, args.width = width, args.most = most;
  Backend::run(args, features);
  return {picks, gains, evaluations};
}

template <class Backend>
std::tuple<Tensor, Tensor, Tensor> log_det_block(const Tensor& schur, Tensor pivots, const Tensor& row_ids,
                                                 const Tensor& budgets, const Tensor& outside,
                                                 const Tensor& outside_row, const Tensor& floor,
                                                 int64_t most) {
  const Call call("log_det_block", schur);
  LogDetBlock args{};
  auto [picks, gains] = bind_block(call, args, row_ids, budgets, outside, outside_row, most);
  const int64_t sets = args.sets, block = args.block;
  BIND(schur, sets, block, block);
  BIND(pivots, sets, block);
  BIND(floor, sets);
  Tensor factor = call.make(args.factor, {sets, most, block}, 0);
  Backend::run(args, schur);
  return {picks, gains, factor};
}

template <class Backend>
std::tuple<Tensor, Tensor> herding(const Tensor& features, std::optional<Tensor> codes,
                                   std::optional<Tensor> step, std::optional<Tensor> slack,
                                   const Tensor& scale, const Tensor& norms, const Tensor& mean,
                                   Tensor residual, Tensor taken, const Tensor& budgets, const Tensor& floor,
                                   int64_t most) {
  const Call call("herding", features);
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  call.check(0 <= most && most <= rows, "most must be between 0 and the ", rows, " rows, got ", most);
  call.check((codes && step && slack) || !(codes || step || slack),
             "codes, step and slack are all given, or none");
  Herding args{};
  BIND(features, sets, rows, width);
  if (codes) {
    call.check(width <= kMostCoded, "codes must be None for more than ", kMostCoded, " columns, got ", width);
    args.code_width = (width + kCodeAlignment - 1) / kCodeAlignment * kCodeAlignment;
    call.bind(args.codes, "codes", *codes, {sets, rows, args.code_width});
    call.check(reinterpret_cast<uintptr_t>(args.codes) % kCodeAlignment == 0,
               "codes must start at a multiple of ", kCodeAlignment, " bytes");
    call.bind(args.step, "step", *step, {sets, rows});
    call.bind(args.slack, "slack", *slack, {sets, rows});
  }
  BIND(scale, sets, rows);
  BIND(norms, sets, rows);
  BIND(mean, sets, width);
  BIND(residual, sets, width);
  BIND(taken, sets, rows);
  BIND(budgets, sets);
  BIND(floor, sets);
  const Tensor scores = call.make(args.scores, {sets, rows});
  check_budgets(call, budgets, args.budgets, sets, most);
  auto [picks, gains] = make_picks(call, args, sets, most);
  args.sets = sets, args.rows = rows, args.width = width, args.most = most;
  Backend::run(args, features);
  return {picks, gains};
}

template <class Backend>
Tensor matching_pursuit(const Tensor& delta, const Tensor& h, const Tensor& target, const Tensor& limits,
                        const Tensor& budgets, Tensor taken, Tensor correlations, Tensor columns,
                        Tensor whitener, Tensor picks, Tensor gains, Tensor weights, int64_t steps) {
  const Call call("matching_pursuit", delta);
  const auto [sets, rows, classes] = call.sizes<3>("delta", delta);
  const int64_t width = call.sizes<3>("h", h)[2], capacity = call.sizes<2>("picks", picks)[1];
  MatchingPursuit args{};
  const double* numbers;
  BIND(delta, sets, rows, classes);
  BIND(h, sets, rows, width);
  BIND(target, sets, rows);
  call.bind(numbers, "limits", limits, {sets, 5});
  args.limits = reinterpret_cast<const MatchingPursuit::Limits*>(numbers);
  BIND(budgets, sets);
  BIND(taken, sets, rows);
  BIND(correlations, sets, rows);
  BIND(columns, sets, capacity, rows);
  BIND(whitener, sets, capacity, capacity);
  BIND(picks, sets, capacity);
  BIND(gains, sets, capacity);
  BIND(weights, sets, capacity);
  call.check(steps >= 0, "steps must be at least 0, got ", steps);
  check_budgets(call, budgets, args.budgets, sets, capacity);
  Tensor made = call.make(args.made, {sets}, 0);
  args.sets = sets, args.rows = rows, args.classes = classes, args.width = width, args.capacity = capacity;
  args.steps = steps;
  Backend::run(args, delta);
  return made;
}

template <class Backend>
Tensor coverage_gains(const Tensor& similarity, const Tensor& coverage) {
  const Call call("coverage_gains", similarity);
  const auto [sets, block, rows] = call.sizes<3>("similarity", similarity);
  CoverageGains args{};
  BIND(similarity, sets, block, rows);
  BIND(coverage, sets, rows);
  Tensor gains = call.make(args.gains, {sets, block});
  args.sets = sets, args.block = block, args.rows = rows;
  Backend::run(args, similarity);
  return gains;
}

#if defined(FASTCORE_CUDA) || defined(FASTCORE_SIMT)
template <class Backend>
Tensor product_gains(const Tensor& features, const Tensor& candidates, const Tensor& coverage) {
  const Call call("product_gains", features);
  ProductGains args{};
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  const int64_t block = call.sizes<3>("candidates", candidates)[1];
  args.half = features.scalar_type() == ScalarType::Half;
  const int64_t number = args.half ? 2 : 4;
  const auto bind = [&, &sets = sets, &width = width](const void*& field, const char* name,
                                                      const Tensor& tensor, int64_t count) {
    const c10::Half* halves = nullptr;
    const float* floats = nullptr;
    if (args.half) {
      call.bind(halves, name, tensor, {sets, count, width});
    } else {
      call.bind(floats, name, tensor, {sets, count, width});
    }
    field = tensor.data_ptr();
    call.check(width * number % 16 == 0 && reinterpret_cast<uintptr_t>(field) % 16 == 0, name,
               " must have rows of 16 bytes or a multiple, at an address that is one, too, got a width of ",
               width);
  };
  bind(args.features, "features", features, rows);
  bind(args.candidates, "candidates", candidates, block);
  BIND(coverage, sets, rows);
  Tensor gains = call.make(args.gains, {sets, block});
  args.sets = sets, args.block = block, args.rows = rows, args.width = width;
  Backend::run(args, features);
  return gains;
}
#endif

template <class Backend>
Tensor refine_products(Tensor products, const Tensor& features, const Tensor& positions,
                       const Tensor& least) {
  const Call call("refine_products", products);
  const auto [sets, block, rows] = call.sizes<3>("products", products);
  RefineProducts args{};
  args.width = call.sizes<3>("features", features)[2];
  BIND(products, sets, block, rows);
  BIND(features, sets, rows, args.width);
  BIND(positions, sets, block);
  BIND(least, sets, rows);
  Tensor counts = call.make(args.counts, {sets, block}, 0.0);
  args.sets = sets, args.block = block, args.rows = rows;
  Backend::run(args, products);
  return counts;
}

template <class Backend>
std::tuple<Tensor, Tensor, Tensor> facility_location_block(
    const Tensor& similarity, std::optional<Tensor> features, std::optional<Tensor> scale,
    std::optional<Tensor> norms, std::optional<Tensor> second, const Tensor& positions, Tensor coverage,
    Tensor bounds, const Tensor& row_ids, const Tensor& budgets, const Tensor& outside,
    const Tensor& outside_row, const Tensor& floor, double error, int64_t metric, double parameter,
    int64_t most) {
  const Call call("facility_location_block", similarity);
  const bool computed = metric != static_cast<int64_t>(Metric::kPrecomputed);
  call.check(0 <= metric && metric <= static_cast<int64_t>(Metric::kRbf), "metric must be 0 to 4, got ",
             metric);
  call.check(computed == (features && scale && norms) && computed == (features || scale || norms),
             "features, scale and norms are all given, or none for a precomputed similarity (metric 0)");
  call.check(computed || !second, "second must be None where there are no features");
  FacilityLocationBlock args{};
  auto [picks, gains] = bind_block(call, args, row_ids, budgets, outside, outside_row, most);
  const int64_t sets = args.sets, block = args.block;
  args.rows = call.sizes<3>("similarity", similarity)[2];
  BIND(similarity, sets, block, args.rows);
  BIND(positions, sets, block);
  BIND(coverage, sets, args.rows);
  BIND(bounds, sets, block);
  BIND(floor, sets);
  if (computed) {
    args.width = call.sizes<3>("features", *features)[2];
    call.bind(args.features, "features", *features, {sets, args.rows, args.width});
    call.bind(args.scale, "scale", *scale, {sets, args.rows});
    call.bind(args.norms, "norms", *norms, {sets, args.rows});
  }
  if (second) {
    args.second_width = call.sizes<3>("second", *second)[2];
    call.bind(args.second, "second", *second, {sets, args.rows, args.second_width});
  }
  Tensor evaluations = call.make(args.evaluations, {sets, 2}, 0);
  args.error = error, args.metric = static_cast<Metric>(metric), args.parameter = parameter;
  Backend::run(args, similarity);
  return {picks, gains, evaluations};
}

// What every op over a sparse matrix takes besides its entries and values: how they lie, sets, budgets and
// floor; and its outputs. args.rows and args.entries are known.
template <class Args>
std::tuple<Tensor, Tensor> bind_sparse(const Call& call, Args& args, const Tensor& offsets,
                                       const Tensor& indices, const Tensor& starts, const Tensor& budgets,
                                       const Tensor& floor, int64_t most) {
  const int64_t rows = args.rows, entries = args.entries;
  const auto [sets] = call.sizes<1>("budgets", budgets);
  call.check(0 <= most && most <= rows, "most must be between 0 and the ", rows, " rows, got ", most);
  BIND(offsets, rows + 1);
  BIND(indices, entries);
  BIND(starts, sets + 1);
  BIND(budgets, sets);
  BIND(floor, sets);
  if (budgets.is_cpu()) {
    call.check(args.offsets[0] == 0 && args.offsets[rows] == entries, "offsets must run from 0 to ", entries,
               ", the number of values");
    call.check(args.starts[0] == 0 && args.starts[sets] == rows &&
                   std::is_sorted(args.starts, args.starts + sets + 1),
               "starts must ascend from 0 to ", rows, ", the number of rows");
  }
  check_budgets(call, budgets, args.budgets, sets, most);
  args.sets = sets, args.most = most;
  return make_picks(call, args, sets, most);
}

template <class Backend>
std::tuple<Tensor, Tensor> graph_cut_sparse(const Tensor& offsets, const Tensor& indices,
                                            const Tensor& weights, Tensor values, const Tensor& starts,
                                            const Tensor& budgets, const Tensor& floor, double penalty,
                                            int64_t most) {
  const Call call("graph_cut_sparse", weights);
  const auto [entries] = call.sizes<1>("weights", weights);
  const auto [rows] = call.sizes<1>("values", values);
  GraphCutSparse args{};
  args.rows = rows, args.entries = entries, args.penalty = penalty;
  BIND(weights, entries);
  BIND(values, rows);
  auto [picks, gains] = bind_sparse(call, args, offsets, indices, starts, budgets, floor, most);
  Backend::run(args, weights);
  return {picks, gains};
}

template <class Backend>
std::tuple<Tensor, Tensor, Tensor> facility_location_sparse(const Tensor& offsets, const Tensor& indices,
                                                            const Tensor& values, Tensor coverage,
                                                            Tensor bounds, const Tensor& starts,
                                                            const Tensor& budgets, const Tensor& floor,
                                                            int64_t most) {
  const Call call("facility_location_sparse", values);
  const auto [entries] = call.sizes<1>("values", values);
  const auto [rows] = call.sizes<1>("coverage", coverage);
  FacilityLocationSparse args{};
  args.rows = rows, args.entries = entries;
  BIND(values, entries);
  BIND(coverage, rows);
  BIND(bounds, rows);
  auto [picks, gains] = bind_sparse(call, args, offsets, indices, starts, budgets, floor, most);
  Tensor evaluations = call.make(args.evaluations, {args.sets}, 0);
  Backend::run(args, values);
  return {picks, gains, evaluations};
}

template <class Backend>
void deepfool_step(const Tensor& normals, const Tensor& values, Tensor nearest, Tensor step, double least) {
  const Call call("deepfool_step", normals);
  const auto [rows, pixels] = call.sizes<2>("normals", normals);
  DeepfoolStep args{};
  BIND(normals, rows, pixels);
  BIND(values, rows);
  BIND(nearest, rows);
  BIND(step, rows, pixels);
  args.least = least, args.rows = rows, args.pixels = pixels;
  Backend::run(args, normals);
}

#ifndef FASTCORE_SIMT
Tensor coordinates(const Tensor& features, const Tensor& along) {
  const Call call("coordinates", features);
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  Coordinates args{};
  args.directions = call.sizes<3>("along", along)[1];
  BIND(features, sets, rows, width);
  BIND(along, sets, args.directions, width);
  Tensor out = call.make(args.out, {sets, args.directions, rows});
  args.sets = sets, args.rows = rows, args.width = width;
  Cpu::run(args, features);
  return out;
}

Tensor euclidean_tile(const Tensor& products, const Tensor& factors, const Tensor& features,
                      const Tensor& second, const Tensor& norms, const Tensor& positions, Tensor out,
                      int64_t first, bool mirror, double relative, double absolute, double error,
                      double parameter) {
  const Call call("euclidean_tile", products);
  const auto [sets, block, columns] = call.sizes<3>("products", products);
  EuclideanTile args{};
  const int64_t rows = call.sizes<2>("norms", norms)[1];
  args.width = call.sizes<3>("features", features)[2];
  args.second_width = call.sizes<3>("second", second)[2];
  BIND(products, sets, block, columns);
  BIND(factors, sets, block, columns);
  BIND(features, sets, rows, args.width);
  BIND(second, sets, rows, args.second_width);
  BIND(norms, sets, rows);
  BIND(positions, sets, block);
  BIND(out, sets, mirror ? rows : block, rows);
  call.check(0 <= first && first + columns <= rows, "first must be between 0 and ", rows - columns, ", got ",
             first);
  call.check(error > 0, "error must be above 0, got ", error);
  Tensor left = call.make(args.left, {1});
  args.first = first, args.mirror = mirror;
  args.relative = relative, args.absolute = absolute, args.error = error, args.parameter = parameter;
  args.sets = sets, args.block = block, args.columns = columns, args.rows = rows;
  Cpu::run(args, products);
  return left;
}

// The rows that both ops on few coordinates take, N dimensions of them.
template <size_t N>
ReducedRows reduced_rows(const Call& call, const Tensor& features, const Tensor& second,
                         const Tensor& reduced, const Tensor& left_out, const Tensor& norms, double relative,
                         double absolute) {
  const auto shape = call.sizes<N>("features", features);
  const Shape rows(shape.begin(), shape.end() - 1);
  const auto wide = [&](int64_t width) {
    Shape with = rows;
    with.push_back(width);
    return with;
  };
  ReducedRows args{};
  args.width = shape[N - 1];
  args.second_width = call.sizes<N>("second", second)[N - 1];
  args.dimensions = call.sizes<N>("reduced", reduced)[N - 1];
  call.bind(args.features, "features", features, wide(args.width));
  call.bind(args.second, "second", second, wide(args.second_width));
  call.bind(args.reduced, "reduced", reduced, wide(args.dimensions));
  call.bind(args.left_out, "left_out", left_out, rows);
  call.bind(args.norms, "norms", norms, rows);
  args.relative = relative, args.absolute = absolute;
  return args;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> facility_location_factored(
    const Tensor& features, const Tensor& second, const Tensor& reduced, const Tensor& left_out,
    const Tensor& norms, Tensor coverage, Tensor bounds, const Tensor& row_ids, const Tensor& budgets,
    const Tensor& floor, double relative, double absolute, double parameter, int64_t pairs, int64_t room,
    int64_t most) {
  const Call call("facility_location_factored", features);
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  FacilityLocationFactored args{};
  args.rows = reduced_rows<3>(call, features, second, reduced, left_out, norms, relative, absolute);
  BIND(coverage, sets, rows);
  BIND(bounds, sets, rows);
  BIND(row_ids, sets, rows);
  BIND(budgets, sets);
  BIND(floor, sets);
  call.check(0 <= most && most <= rows, "most must be between 0 and the ", rows, " rows, got ", most);
  check_budgets(call, budgets, args.budgets, sets, most);
  auto [picks, gains] = make_picks(call, args, sets, most);
  Tensor counts = call.make(args.counts, {sets, 3}, 0);
  Tensor done = call.make(args.done, {1});
  args.parameter = parameter, args.pairs = pairs, args.room = room;
  args.sets = sets, args.count = rows, args.most = most;
  Cpu::run(args, features);
  return {picks, gains, counts, done};
}

Tensor nearest_factored(const Tensor& features, const Tensor& second, const Tensor& reduced,
                        const Tensor& left_out, const Tensor& norms, const Tensor& members,
                        const Tensor& picks, const Tensor& blur, double relative, double absolute) {
  const Call call("nearest_factored", features);
  NearestFactored args{};
  args.rows = reduced_rows<2>(call, features, second, reduced, left_out, norms, relative, absolute);
  const auto [sets, count] = call.sizes<2>("members", members);
  args.most = call.sizes<2>("picks", picks)[1];
  BIND(members, sets, count);
  BIND(picks, sets, args.most);
  BIND(blur, call.sizes<1>("norms", norms)[0]);
  Tensor nearest = call.make(args.nearest, {sets, count});
  args.sets = sets, args.count = count;
  Cpu::run(args, features);
  return nearest;
}

Tensor factored_columns(const Tensor& features, const Tensor& second, const Tensor& others,
                        const Tensor& other_second) {
  const Call call("factored_columns", features);
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  FactoredColumns args{};
  args.second_width = call.sizes<3>("second", second)[2];
  args.columns = call.sizes<3>("others", others)[1];
  BIND(features, sets, rows, width);
  BIND(second, sets, rows, args.second_width);
  BIND(others, sets, args.columns, width);
  BIND(other_second, sets, args.columns, args.second_width);
  Tensor out = call.make(args.out, {sets, rows, args.columns});
  args.sets = sets, args.rows = rows, args.width = width;
  Cpu::run(args, features);
  return out;
}

Tensor factored_project(const Tensor& features, const Tensor& second, const Tensor& direction) {
  const Call call("factored_project", features);
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  FactoredProject args{};
  args.second_width = call.sizes<3>("second", second)[2];
  BIND(features, sets, rows, width);
  BIND(second, sets, rows, args.second_width);
  BIND(direction, sets, width, 1 + args.second_width);
  Tensor out = call.make(args.out, {sets, rows});
  args.sets = sets, args.rows = rows, args.width = width;
  Cpu::run(args, features);
  return out;
}

Tensor factored_sum(const Tensor& features, const Tensor& second, const Tensor& weights) {
  const Call call("factored_sum", features);
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  FactoredSum args{};
  args.second_width = call.sizes<3>("second", second)[2];
  BIND(features, sets, rows, width);
  BIND(second, sets, rows, args.second_width);
  BIND(weights, sets, rows);
  Tensor out = call.make(args.out, {sets, width, 1 + args.second_width});
  args.sets = sets, args.rows = rows, args.width = width;
  Cpu::run(args, features);
  return out;
}

Tensor asymmetry(const Tensor& matrix) {
  const Call call("asymmetry", matrix);
  const auto [sets, rows, columns] = call.sizes<3>("matrix", matrix);
  Asymmetry args{};
  BIND(matrix, sets, rows, rows);
  Tensor out = call.make(args.out, {sets});
  args.sets = sets, args.rows = rows;
  Cpu::run(args, matrix);
  return out;
}

Tensor factored_coordinates(const Tensor& features, const Tensor& second, const Tensor& second_along,
                            const Tensor& along) {
  const Call call("factored_coordinates", features);
  const auto [sets, rows, width] = call.sizes<3>("features", features);
  FactoredCoordinates args{};
  args.second_width = call.sizes<3>("second", second)[2];
  args.outer = call.sizes<3>("second_along", second_along)[1];
  args.directions = call.sizes<3>("along", along)[1];
  BIND(features, sets, rows, width);
  BIND(second, sets, rows, args.second_width);
  BIND(second_along, sets, args.outer, 1 + args.second_width);
  BIND(along, sets, args.directions, width * args.outer);
  Tensor out = call.make(args.out, {sets, args.directions, rows});
  args.sets = sets, args.rows = rows, args.width = width;
  Cpu::run(args, features);
  return out;
}
#endif

#undef BIND
#undef BIND_COLUMNS

template <class Backend>
void implement(torch::stable::detail::StableLibrary& library) {
#define FASTCORE_IMPLEMENT(op, Args) library.impl(#op, TORCH_BOX(&op<Backend>));
  FASTCORE_OPS(FASTCORE_IMPLEMENT)
#undef FASTCORE_IMPLEMENT
}

#if defined(FASTCORE_CUDA) || defined(FASTCORE_SIMT)
template <class Backend>
void implement_on_cuda(torch::stable::detail::StableLibrary& library) {
  implement<Backend>(library);
#define FASTCORE_IMPLEMENT(op, Args) library.impl(#op, TORCH_BOX(&op<Backend>));
  FASTCORE_CUDA_OPS(FASTCORE_IMPLEMENT)
#undef FASTCORE_IMPLEMENT
}
#endif

}  // namespace
}  // namespace fastcore

FASTCORE_LIBRARY(FASTCORE_NAMESPACE, library) {
  library.def("project(Tensor features, Tensor direction) -> Tensor");
  library.def("squared_norms(Tensor features) -> Tensor");
  library.def("weighted_sum(Tensor features, Tensor weights) -> Tensor");
  library.def(
      "nearest_update(Tensor products, Tensor row_norms, Tensor pick_norms, Tensor(a!) nearest, "
      "Tensor(b!) owner, Tensor(c!) second, int offset) -> ()");
  library.def(
      "farthest_first_block(Tensor distances, Tensor(a!) nearest, Tensor row_ids, Tensor budgets, "
      "Tensor outside, Tensor outside_row, int most) -> (Tensor, Tensor)");
  library.def(
      "graph_cut_block(Tensor similarity, Tensor(a!) values, Tensor row_ids, Tensor budgets, Tensor outside, "
      "Tensor outside_row, Tensor floor, float penalty, int most) "
      "-> (Tensor, Tensor)");
  library.def(
      "graph_cut_sparse(Tensor offsets, Tensor indices, Tensor weights, Tensor(a!) values, Tensor starts, "
      "Tensor budgets, Tensor floor, float penalty, int most) -> (Tensor, Tensor)");
  library.def(
      "linear_cut(Tensor features, Tensor? second, Tensor scale, Tensor coordinates, Tensor(a!) values, "
      "Tensor budgets, Tensor floor, float penalty, float error, int most) -> (Tensor, Tensor, Tensor)");
  library.def(
      "log_det_block(Tensor schur, Tensor(a!) pivots, Tensor row_ids, Tensor budgets, Tensor outside, "
      "Tensor outside_row, Tensor floor, int most) -> (Tensor, Tensor, Tensor)");
  library.def(
      "herding(Tensor features, Tensor? codes, Tensor? step, Tensor? slack, Tensor scale, Tensor norms, "
      "Tensor mean, Tensor(a!) residual, Tensor(b!) taken, Tensor budgets, Tensor floor, int most) "
      "-> (Tensor, Tensor)");
  library.def(
      "matching_pursuit(Tensor delta, Tensor h, Tensor target, Tensor limits, Tensor budgets, "
      "Tensor(a!) taken, Tensor(b!) correlations, Tensor(c!) columns, Tensor(d!) whitener, "
      "Tensor(e!) picks, Tensor(f!) gains, Tensor(g!) weights, int steps) -> Tensor");
  library.def("coverage_gains(Tensor similarity, Tensor coverage) -> Tensor");
  library.def("product_gains(Tensor features, Tensor candidates, Tensor coverage) -> Tensor");
  library.def(
      "refine_products(Tensor(a!) products, Tensor features, Tensor positions, Tensor least) -> Tensor");
  library.def(
      "facility_location_block(Tensor similarity, Tensor? features, Tensor? scale, Tensor? norms, "
      "Tensor? second, Tensor positions, Tensor(a!) coverage, Tensor(b!) bounds, Tensor row_ids, "
      "Tensor budgets, "
      "Tensor outside, Tensor outside_row, Tensor floor, float error, int metric, float parameter, int most) "
      "-> (Tensor, Tensor, Tensor)");
  library.def("coordinates(Tensor features, Tensor along) -> Tensor");
  library.def(
      "euclidean_tile(Tensor products, Tensor factors, Tensor features, Tensor second, Tensor norms, "
      "Tensor positions, Tensor(a!) out, int first, bool mirror, float relative, float absolute, "
      "float error, float parameter) -> Tensor");
  library.def(
      "factored_columns(Tensor features, Tensor second, Tensor others, Tensor other_second) -> Tensor");
  library.def(
      "facility_location_factored(Tensor features, Tensor second, Tensor reduced, Tensor left_out, Tensor "
      "norms, "
      "Tensor(a!) coverage, Tensor(b!) bounds, Tensor row_ids, Tensor budgets, Tensor floor, float relative, "
      "float absolute, float parameter, int pairs, int room, int most) -> (Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "nearest_factored(Tensor features, Tensor second, Tensor reduced, Tensor left_out, Tensor norms, "
      "Tensor members, Tensor picks, Tensor blur, float relative, float absolute) -> Tensor");
  library.def("factored_project(Tensor features, Tensor second, Tensor direction) -> Tensor");
  library.def("factored_sum(Tensor features, Tensor second, Tensor weights) -> Tensor");
  library.def("asymmetry(Tensor matrix) -> Tensor");
  library.def(
      "factored_coordinates(Tensor features, Tensor second, Tensor second_along, Tensor along) -> Tensor");
  library.def(
      "deepfool_step(Tensor normals, Tensor values, Tensor(a!) nearest, Tensor(b!) step, float least) -> ()");
  library.def(
      "facility_location_sparse(Tensor offsets, Tensor indices, Tensor values, Tensor(a!) coverage, "
      "Tensor(b!) bounds, Tensor starts, Tensor budgets, Tensor floor, int most) -> (Tensor, Tensor, "
      "Tensor)");
}

#ifdef FASTCORE_SIMT
FASTCORE_LIBRARY_IMPL(FASTCORE_NAMESPACE, CPU, library) {
  fastcore::implement_on_cuda<fastcore::Simt>(library);
}
#else
FASTCORE_LIBRARY_IMPL(FASTCORE_NAMESPACE, CPU, library) {
  fastcore::implement<fastcore::Cpu>(library);
  library.impl("coordinates", TORCH_BOX(&fastcore::coordinates));
  library.impl("euclidean_tile", TORCH_BOX(&fastcore::euclidean_tile));
  library.impl("facility_location_factored", TORCH_BOX(&fastcore::facility_location_factored));
  library.impl("nearest_factored", TORCH_BOX(&fastcore::nearest_factored));
  library.impl("factored_columns", TORCH_BOX(&fastcore::factored_columns));
  library.impl("factored_project", TORCH_BOX(&fastcore::factored_project));
  library.impl("factored_sum", TORCH_BOX(&fastcore::factored_sum));
  library.impl("asymmetry", TORCH_BOX(&fastcore::asymmetry));
  library.impl("factored_coordinates", TORCH_BOX(&fastcore::factored_coordinates));
}
#endif
#ifdef FASTCORE_CUDA
FASTCORE_LIBRARY_IMPL(FASTCORE_NAMESPACE, CUDA, library) {
  fastcore::implement_on_cuda<fastcore::Cuda>(library);
}
#endif
