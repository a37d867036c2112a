// Numbers that begin with a cache line: vectors that cross from one line to the next take two reads.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// At least `count` numbers that fill vectors of 32 bytes.
template <class Number>
constexpr int64_t whole_vectors(int64_t count) {
  constexpr int64_t numbers = 32 / sizeof(Number);
  return (count + numbers - 1) / numbers * numbers;
}

// `count` numbers, without a value at first.
template <class Number>
class LineAligned {
 public:
  explicit LineAligned(int64_t count)
      : numbers_(static_cast<Number*>(operator new(static_cast<size_t>(count) * sizeof(Number), kLine))) {}
  LineAligned(int64_t count, Number value) : LineAligned(count) { std::fill_n(data(), count, value); }

  Number* data() const { return numbers_.get(); }
  Number& operator[](int64_t at) const { return data()[at]; }

 private:
  static constexpr std::align_val_t kLine{64};
  struct Delete {
    void operator()(Number* numbers) const { operator delete(numbers, kLine); }
  };
  std::unique_ptr<Number, Delete> numbers_;
};

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
