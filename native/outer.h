// Weight gradients: the sum over all rows of one vector times another, out[m][k] = Σ_n a[n][m] b[n][k].
//
// Rows are taken in blocks. Of a block, b is packed as [panel][row][NV][W], which stays in an L2 cache, and a as
// [row][R] for one tile after another. Sums run over the rows in one order, so they do not depend on the threads.
#pragma once

#include <algorithm>

#include "product.h"
#include "threads.h"

namespace elman::ELMAN_LEVEL {

constexpr int64_t kBlockBytes = 384 << 10;  // of packed b
constexpr int64_t kLeastBlock = 32, kMostBlock = 256;

template <class T, int R, int NV>
[[gnu::noinline]] void multiply_columns(const T* a, const T* b, int64_t depth, T* sums) {
  constexpr int W = Simd<T>::W;
  Vec<T> sum[R][NV];
#pragma GCC unroll 64
  for (int i = 0; i < R * NV; ++i) sum[i / NV][i % NV] = Vec<T>{};
  for (int64_t k = 0; k < depth; ++k, a += R, b += NV * W) {
#pragma GCC unroll 64
    for (int i = 0; i < R * NV; ++i) sum[i / NV][i % NV] += splat(a[i / NV]) * load<T>(b + i % NV * W);
  }
#pragma GCC unroll 64
  for (int i = 0; i < R * NV; ++i) store(sums + i * W, sum[i / NV][i % NV]);
}

template <class T>
class OuterBlock {
 public:
  static constexpr int W = Simd<T>::W, NV = 2, U = NV * W, R = kTileRows<NV>;

  OuterBlock(const Outer<T>& p, Memory<T>& b_memory, Memory<T>& a_memory)
      : p(p), count_(panels(p.right, U)), size_(std::clamp(fitting(), kLeastBlock, kMostBlock)) {
    b_ = b_memory.get(size_ * count_ * U);
    a_ = a_memory.get(size_ * R);
  }

  // Columns [m, end) of a.
  void run(int64_t m, int64_t end) {
    for (first_ = 0; first_ < p.rows; first_ += size_) {
      rows_ = std::min(size_, p.rows - first_);
      pack_right();
      columns<R>(m, end);
    }
  }

 private:
  int64_t fitting() const { return kBlockBytes / int64_t(sizeof(T)) / (count_ * U); }

  void pack_right() {
    for (int64_t i = 0; i < rows_; ++i) {
      const int64_t row = p.order ? p.order[first_ + i] : first_ + i;
      const T* from = row < 0 ? p.b0 + ~row * p.right : p.b + row * p.right;
      T* to = b_ + i * U;
      int64_t left = p.right;
      for (; left >= U; left -= U, from += U, to += size_ * U) std::memcpy(to, from, U * sizeof(T));
      if (left > 0) {
        std::memcpy(to, from, left * sizeof(T));
        std::fill(to + left, to + U, T(0));
      }
    }
  }

  template <int Rows>
  void columns(int64_t m, int64_t end) {
    for (; m + Rows <= end; m += Rows) tile<Rows>(m);
    if constexpr (Rows > 1)
      if (m < end) columns<smaller(Rows)>(m, end);
  }

  template <int Rows>
  void tile(int64_t m) {
    const T* from = p.a + first_ * p.stride + m;
    for (int64_t i = 0; i < rows_; ++i) std::memcpy(a_ + i * Rows, from + i * p.stride, Rows * sizeof(T));
    if (p.sums) add_up<Rows>(m);
    alignas(64) T sums[Rows * NV * W];
    for (int64_t panel = 0; panel < count_; ++panel) {
      multiply_columns<T, Rows, NV>(a_, b_ + panel * size_ * U, rows_, sums);
      keep(sums, Rows, p.out + m * p.right + panel * U, p.right - panel * U);
    }
  }

  template <int Rows>
  void add_up(int64_t m) {
    T total[Rows] = {};
    for (int64_t i = 0; i < rows_; ++i)
      for (int r = 0; r < Rows; ++r) total[r] += a_[i * Rows + r];
    for (int r = 0; r < Rows; ++r) p.sums[m + r] = first_ ? p.sums[m + r] + total[r] : total[r];
  }

  void keep(const T* sums, int rows, T* out, int64_t left) const {
    for (int r = 0; r < rows; ++r, sums += U, out += p.right) {
      if (left >= U) {
        for (int v = 0; v < NV; ++v) {
          const Vec<T> sum = load(sums + v * W);
          store(out + v * W, first_ ? load(out + v * W) + sum : sum);
        }
      } else {
        for (int64_t k = 0; k < left; ++k) out[k] = first_ ? out[k] + sums[k] : sums[k];
      }
    }
  }

  const Outer<T>& p;
  int64_t count_, size_;  // panels of b; rows of a block
  int64_t first_ = 0, rows_ = 0;
  T *a_, *b_;
};

template <class T>
void outer(const Outer<T>& p) {
  share_rows(p.left, p.threads, p.rows * p.left * p.right, [&](int64_t m, int64_t end) {
    static thread_local Memory<T> b_memory, a_memory;
    OuterBlock<T>(p, b_memory, a_memory).run(m, end);
  });
}

}  // namespace elman::ELMAN_LEVEL
