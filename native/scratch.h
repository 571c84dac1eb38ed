// Memory aligned for vectors that grows when needed and is kept for the next call.
#pragma once

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdint>
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

constexpr uintptr_t kHugePage = 2 << 20;

// Fresh memory of many megabytes costs a page fault every 4 KiB: ask for large pages before the first touch.
template <class T>
void expect_writes(T* p, int64_t count) {
#ifdef __linux__
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(p) + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = reinterpret_cast<uintptr_t>(p + count) / kHugePage * kHugePage;
  if (p && begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace elman
