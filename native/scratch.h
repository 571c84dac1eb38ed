// Memory aligned for vectors that grows when needed and is kept for the next call.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace elman {

template <class T>
class Scratch {
 public:
  T* get(size_t count) {
    if (count > size_) {
      data_.reset();
      size_ = 0;
      const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
      data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
      if (!data_) throw std::bad_alloc();
      size_ = count;
    }
    return data_.get();
  }
  const T* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  size_t size_ = 0;
};

}  // namespace elman
