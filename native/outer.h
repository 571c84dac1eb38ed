// Weight gradients: the sum over all rows of one vector times another, out[m][k] = Σ_n a[n][m] b[n][k].
//
// Rows are taken in blocks, of which both factors are packed to stay in an L2 cache: b as [panel][row][NV][W], a as
// [tile][row][S] with R ≤ S columns to a tile. Sums run over the rows in one order, so they do not depend on the
// threads.
#pragma once

#include <algorithm>

#include "product.h"
#include "threads.h"

namespace elman::ELMAN_LEVEL {

constexpr int64_t kBlockBytes = 384 << 10;  // of both, packed
constexpr int64_t kLeastBlock = 32, kMostBlock = 256;

template <class T, int R, int S, int NV, int Used>
[[gnu::noinline]] void multiply_columns(const T* a, const T* b, int64_t depth, T* sums) {
  constexpr int W = Simd<T>::W;
  Vec<T> sum[R][Used];
#pragma GCC unroll 64
  for (int i = 0; i < R * Used; ++i) sum[i / Used][i % Used] = Vec<T>{};
  for (int64_t k = 0; k < depth; ++k, a += S, b += NV * W) {
#pragma GCC unroll 64
    for (int i = 0; i < R * Used; ++i) sum[i / Used][i % Used] += splat(a[i / Used]) * load<T>(b + i % Used * W);
  }
#pragma GCC unroll 64
  for (int i = 0; i < R * Used; ++i) store(sums + (i / Used * NV + i % Used) * W, sum[i / Used][i % Used]);
}

// Columns [m, end) of a.
template <class T>
class OuterPart {
 public:
  static constexpr int W = Simd<T>::W, NV = 2, U = NV * W, R = kTileRows<NV>;
  static constexpr int AV = (R + W - 1) / W, S = AV * W;  // a row of a's tile is AV vectors

  OuterPart(const Outer<T>& p, int64_t m, int64_t end, Memory<T>& a_memory, Memory<T>& b_memory)
      : p(p), begin_(m), end_(end), tiles_(panels(end - m, R)), panels_(panels(p.right, U)) {
    // As for two threads, however many there are: the size of a block is the order of the sums.
    const int64_t width = panels(p.left, R) * S / 2 + panels_ * U;
    size_ = std::clamp<int64_t>(kBlockBytes / int64_t(sizeof(T)) / width, kLeastBlock, kMostBlock);
    a_ = a_memory.get((size_ + 1) * tiles_ * S);
    b_ = b_memory.get(size_ * panels_ * U);
    sums_ = a_ + size_ * tiles_ * S;
  }

  void run() {
    std::fill_n(sums_, tiles_ * S, T(0));
    for (first_ = 0; first_ < p.rows; first_ += size_) {
      rows_ = std::min(size_, p.rows - first_);
      pack_left();
      pack_right();
      tiles();
    }
    for (int64_t m = begin_; p.sums && m < end_; ++m) p.sums[m] = sums_[(m - begin_) / R * S + (m - begin_) % R];
  }

 private:
  void pack_left() {
    for (int64_t i = 0; i < rows_; ++i) {
      const T* row = p.a + (first_ + i) * p.stride;
      T* to = a_ + i * S;
      for (int64_t t = 0; t < tiles_; ++t, to += size_ * S) {
        const int64_t m = begin_ + t * R;
        m + S <= p.left ? pack_tile<true>(row, m, to, sums_ + t * S) : pack_tile<false>(row, m, to, sums_ + t * S);
      }
    }
  }

  template <bool Full>
  ELMAN_INLINE void pack_tile(const T* row, int64_t m, T* to, T* sums) const {
    for (int v = 0; v < AV; ++v) {
      const Lanes<T, Full> lanes{int(std::clamp<int64_t>(p.left - m - v * W, 0, W))};
      const Vec<T> x = lanes.load(row + m + v * W);
      store(to + v * W, x);
      store(sums + v * W, load(sums + v * W) + x);
    }
  }

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

  void tiles() {
    for (int64_t m = begin_; m < end_; m += R) tile_of<R>(m, std::min<int64_t>(R, end_ - m));
  }

  template <int Columns>
  void tile_of(int64_t m, int64_t count) {
    if constexpr (Columns > 1)
      if (count < Columns) return tile_of<Columns - 1>(m, count);
    tile<Columns>(m);
  }

  template <int Columns>
  void tile(int64_t m) {
    alignas(64) T sums[Columns * U];
    const T* a = a_ + (m - begin_) / R * size_ * S + (m - begin_) % R;
    for (int64_t panel = 0; panel < panels_; ++panel) {
      const auto multiply =
          p.right - panel * U > W ? multiply_columns<T, Columns, S, NV, NV> : multiply_columns<T, Columns, S, NV, 1>;
      multiply(a, b_ + panel * size_ * U, rows_, sums);
      keep(sums, Columns, p.out + m * p.right + panel * U, p.right - panel * U);
    }
  }

  void keep(const T* sums, int rows, T* out, int64_t left) const {
    for (int r = 0; r < rows; ++r, sums += U, out += p.right) {
      if (left >= U) {
        for (int v = 0; v < NV; ++v) {
          const Vec<T> sum = load(sums + v * W);
          store(out + v * W, first_ ? load(out + v * W) + sum : sum);
        }
      } else {
        for (int64_t k = 0; k < left; ++k) out[k] = first_ ? out[k] + sums[k] : sums[k];  // the last panel
      }
    }
  }

  const Outer<T>& p;
  int64_t begin_, end_, tiles_, panels_, size_;  // size_: rows of a block
  int64_t first_ = 0, rows_ = 0;
  T *a_, *b_, *sums_;
};

template <class T>
void outer(const Outer<T>& p) {
  share_rows(p.left, p.threads, p.rows * p.left * p.right, [&](int64_t m, int64_t end) {
    static thread_local Memory<T> a_memory, b_memory;
    OuterPart<T>(p, m, end, a_memory, b_memory).run();
  });
}

}  // namespace elman::ELMAN_LEVEL
