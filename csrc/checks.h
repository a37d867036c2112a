// Argument checks of the torch glue. Every error names the op, the argument, what it must be and what it is.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace fastcore {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Shape = std::vector<int64_t>;

template <class T>
constexpr ScalarType dtype = torch::headeronly::CppTypeToScalarType<T>::value;

inline std::string text(const Shape& shape) {
  std::ostringstream out;
  out << "(";
  for (size_t i = 0; i < shape.size(); ++i) out << (i ? ", " : "") << shape[i];
  out << (shape.size() == 1 ? ",)" : ")");
  return out.str();
}

inline Shape shape_of(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return Shape(sizes.begin(), sizes.end());
}

// The checks of one call. `first` is the argument that fixes the device of all others.
class Call {
 public:
  Call(const char* op, const Tensor& first) : op_(op), first_(first) {}

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    std::ostringstream message;
    message << "fastcore::" << op_ << ": ";
    (message << ... << parts);
    throw std::runtime_error(message.str());  // a RuntimeError in Python
  }

  template <class... Parts>
  void check(bool ok, const Parts&... parts) const {
    if (!ok) fail(parts...);
  }

  // The sizes of an argument that must have N dimensions.
  template <size_t N>
  std::array<int64_t, N> sizes(const char* name, const Tensor& tensor) const {
    const Shape shape = shape_of(tensor);
    if (shape.size() != N) fail(name, " must have ", N, " dimensions, got shape ", text(shape));
    std::array<int64_t, N> sizes{};
    std::copy(shape.begin(), shape.end(), sizes.begin());
    return sizes;
  }

  // Points `field` at a contiguous tensor of exactly this shape and of the field's type.
  template <class T>
  void bind(T*& field, const char* name, const Tensor& tensor, const Shape& shape) const {
    check_type<T>(name, tensor, shape);
    check(tensor.is_contiguous(), name, " must be contiguous");
    field = static_cast<T*>(tensor.data_ptr());
  }

  // The same for float32 or float64; says which.
  void bind_real(const void*& field, bool& is_double, const char* name, const Tensor& tensor,
                 const Shape& shape) const {
    is_double = tensor.scalar_type() == ScalarType::Double;
    if (is_double) {
      const double* values;
      bind(values, name, tensor, shape);
      field = values;
    } else {
      const float* values;
      bind(values, name, tensor, shape);
      field = values;
    }
  }

  // A (sets, rows) tensor whose rows are dense and whose sets are `stride` apart: a slice of columns.
  template <class T>
  void bind_columns(T*& field, const char* name, const Tensor& tensor, const Shape& shape,
                    int64_t stride) const {
    check_type<T>(name, tensor, shape);
    check(shape[1] < 2 || tensor.stride(1) == 1, name, " must be dense in its last dimension");
    check(shape[0] < 2 || tensor.stride(0) == stride, name, " must have a stride of ", stride,
          " between ground sets, as nearest has, got ", tensor.stride(0));
    field = static_cast<T*>(tensor.data_ptr());
  }

  // Points `field` at a new tensor on the device of the first argument, every element `value`.
  template <class T>
  Tensor make(T*& field, const Shape& shape, double value) const {
    Tensor tensor = make(field, shape);
    torch::stable::fill_(tensor, value);
    return tensor;
  }

  // The same without a value.
  template <class T>
  Tensor make(T*& field, const Shape& shape) const {
    Tensor tensor = torch::stable::new_empty(first_, shape, dtype<T>);
    field = static_cast<T*>(tensor.data_ptr());
    return tensor;
  }

 private:
  template <class T>
  void check_type(const char* name, const Tensor& tensor, const Shape& shape) const {
    constexpr ScalarType wanted = dtype<std::remove_const_t<T>>;
    if (tensor.scalar_type() != wanted || shape_of(tensor) != shape) {
      fail(name, " must be ", wanted, " of shape ", text(shape), ", got ", tensor.scalar_type(), " of shape ",
           text(shape_of(tensor)));
    }
    check(tensor.device() == first_.device(), name, " must be on the same device as the first argument");
  }

  const char* op_;
  const Tensor& first_;
};

}  // namespace fastcore
