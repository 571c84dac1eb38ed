// y = x wᵀ + bias by the tiles of product.h, over weights packed by pack_linear or pack_transposed.
#pragma once

#include <algorithm>

#include "kernels.h"
#include "product.h"

namespace elman::ELMAN_LEVEL {

template <class T_, bool Narrow = false>
struct LinearOp {
  using T = T_;
  static constexpr bool narrow = Narrow;
  static constexpr int W = Simd<T>::W, NV = 2, U = NV * W;

  const Linear<T>& p;
  const T* w;
  int64_t depth;

  explicit LinearOp(const Linear<T>& p) : p(p), w(p.w), depth(p.in) {}

  int factors(int64_t row, Factor<T>* f) const {
    f[0] = {p.x + row * depth, depth, depth, 0};
    return 1;
  }

  template <bool Full>
  [[gnu::noinline]] void finish(const T* sums, int rows, int64_t row, int64_t unit) const {
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < NV; ++v, sums += W) {
        const Lanes<T, Full> lanes{int(std::clamp<int64_t>(p.out - unit - v * W, 0, W))};
        if (!Full && lanes.count == 0) continue;
        const Vec<T> y = p.bias ? load(sums) + lanes.load(p.bias + unit + v * W) : load(sums);
        lanes.store(p.y + (row + r) * p.out + unit + v * W, y);
      }
  }
};

}  // namespace elman::ELMAN_LEVEL
