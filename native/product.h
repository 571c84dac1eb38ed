// Small matrix products whose results never leave the registers before a cell's equations have used them.
//
// Weights lie packed as [panel][depth][NV][W]: the NV vectors that one panel of units needs at one depth are side by
// side. A tile is R rows × NV vectors of sums; R is chosen so that the sums fill the registers. Every sum runs over
// the depth in the same order whatever the tile, so results do not depend on how rows and panels are shared out.
#pragma once

#include <cstdlib>
#include <new>

#include "simd.h"

namespace elman::ELMAN_LEVEL {

// Rows of the left factor: row r is a + r·stride, `depth` numbers long. Its weights start `skip` into the panel's.
template <class T>
struct Factor {
  const T* a;
  int64_t stride, depth, skip;
};

inline int64_t panels(int64_t units, int64_t per_panel) { return (units + per_panel - 1) / per_panel; }

// A single row has too few sums to hide the latency of a multiply-add: take several panels at once.
constexpr int panels_at_once(int r, int nv) { return r * nv >= 8 ? 1 : 8 / (r * nv); }

template <int NV>
constexpr int kTileRows = (kRegisters - 4) / NV;

// The weights of one depth; of narrow ones, the last depth of an odd number.
template <class T, bool Narrow>
ELMAN_INLINE Vec<T> load_weights(const T* w) {
  if constexpr (Narrow)
    return first_of(load_pair(w));
  else
    return load(w);
}

// sums [P][R][NV][W] = the factors' rows times their weights. Loops over the sums must unroll completely, or the
// compiler keeps them in memory; that is why they leave through `sums` and not straight into the equations, whose
// code would otherwise be repeated for every row of every tile. Used: only so many of the NV vectors are wanted.
template <class T, bool Narrow, int P, int R, int NV, int Used>
[[gnu::noinline]] void multiply(const Factor<T>* factors, int count, const T* w, int64_t panel_size, T* sums) {
  constexpr int W = Simd<T>::W;
  Vec<T> sum[P][R][Used];
#pragma GCC unroll 32
  for (int i = 0; i < P * R * Used; ++i) sum[i / (R * Used)][i / Used % R][i % Used] = Vec<T>{};
  for (int f = 0; f < count; ++f) {
    const T *a = factors[f].a, *b = w + factors[f].skip * NV * W;
    const int64_t stride = factors[f].stride;
    int64_t k = 0;
    if constexpr (Narrow) {
      for (; k + 2 <= factors[f].depth; k += 2, a += 2, b += NV * W) {
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
          for (int v = 0; v < Used; ++v) {
            const Pair pair = load_pair(b + p * panel_size + v * W);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) sum[p][r][v] += splat(a[r * stride]) * first_of(pair);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) sum[p][r][v] += splat(a[r * stride + 1]) * second_of(pair);
          }
        }
      }
    }
    for (; k < factors[f].depth; ++k, ++a, b += NV * W) {
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const Vec<T> x = splat(a[r * stride]);
#pragma GCC unroll 16
          for (int v = 0; v < Used; ++v) sum[p][r][v] += x * load_weights<T, Narrow>(b + p * panel_size + v * W);
        }
      }
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < P * R * Used; ++i)
    store(sums + (i / Used * NV + i % Used) * W, sum[i / (R * Used)][i / Used % R][i % Used]);
}

// The left factors of the rows from `first` on.
template <class T>
struct Rows {
  Factor<T> factors[2] = {};
  int count = 0;
  int64_t first = 0;

  void at(int64_t row, Factor<T>* found) const {
    for (int f = 0; f < count; ++f) {
      found[f] = factors[f];
      found[f].a += (row - first) * factors[f].stride;
    }
  }
};

// Memory that grows and stays; scratch.h's is not for here, since its code would be shared between CPU levels.
template <class T>
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  ~Memory() { std::free(data_); }

  T* get(int64_t count) {
    if (count > size_) {
      std::free(data_);
      data_ = static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64));
      size_ = data_ ? count : 0;
      if (!data_) throw std::bad_alloc();
    }
    return data_;
  }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
};

template <class T>
bool compete(const Factor<T>& f, int64_t count) {
  return count > 3 && f.stride * sizeof(T) % 2048 == 0;
}

// Rows [rows.first, end) whose stride is a multiple of 2 KiB lie in the same one or two sets of an L1 cache and push
// each other out: they are copied to where they do not.
template <class T>
void separate(Rows<T>& rows, int64_t end, Memory<T>& memory) {
  constexpr int64_t line = 64 / sizeof(T);
  const int64_t count = end - rows.first;
  int64_t size = 0, strides[2];
  for (int f = 0; f < rows.count; ++f) {
    strides[f] = (rows.factors[f].depth + line - 1) / line * line + line;
    if (compete(rows.factors[f], count)) size += count * strides[f];
  }
  if (size == 0) return;
  T* to = memory.get(size);
  for (int f = 0; f < rows.count; ++f) {
    Factor<T>& factor = rows.factors[f];
    if (!compete(factor, count)) continue;
    const T* start = to;
    for (int64_t r = 0; r < count; ++r, to += strides[f])
      std::memcpy(to, factor.a + r * factor.stride, factor.depth * sizeof(T));
    factor.a = start;
    factor.stride = strides[f];
  }
}

// What a product is for: Op says which factors to multiply and what to do with a tile's sums.
//   Op::T, Op::NV, Op::U (units of a panel), Op::narrow, op.w (packed weights or null), op.depth
//   op.factors(row, Factor[2])              fills in the factors of rows from `row` on, returns how many
//   op.finish<Full>(sums, rows, row, unit)  uses sums [rows][NV][W]; Full: all U units exist
template <class Op, int R, int P, int Used>
ELMAN_INLINE void tile(const Op& op, const Rows<typename Op::T>& rows, int64_t row, int64_t panel, bool full) {
  using T = typename Op::T;
  constexpr int W = Simd<T>::W;
  alignas(64) T sums[P * R * Op::NV * W];
  Factor<T> factors[2];
  rows.at(row, factors);
  const int64_t panel_size = (Op::narrow ? (op.depth + 1) / 2 : op.depth) * Op::NV * W;
  multiply<T, Op::narrow, P, R, Op::NV, Used>(factors, rows.count, op.w + panel * panel_size, panel_size, sums);
  for (int p = 0; p < P; ++p)
    full ? op.template finish<true>(sums + p * R * Op::NV * W, R, row, (panel + p) * Op::U)
         : op.template finish<false>(sums + p * R * Op::NV * W, R, row, (panel + p) * Op::U);
}

// A tile of `count` ≤ R rows.
template <class Op, int R, int Used>
ELMAN_INLINE void tile_of(const Op& op, const Rows<typename Op::T>& rows, int64_t row, int64_t count, int64_t panel,
                          bool full) {
  if constexpr (R > 1)
    if (count < R) return tile_of<Op, R - 1, Used>(op, rows, row, count, panel, full);
  tile<Op, R, 1, Used>(op, rows, row, panel, full);
}

// Tiles as large as each other: a small one waits for its weights, not for its multiply-adds.
template <class Op, int R, int Used>
void panel_rows(const Op& op, const Rows<typename Op::T>& rows, int64_t row, int64_t end, int64_t panel, bool full) {
  for (int64_t left = panels(end - row, R); left > 0; --left) {
    const int64_t count = (end - row + left - 1) / left;
    tile_of<Op, R, Used>(op, rows, row, count, panel, full);
    row += count;
  }
}

template <class Op, int R>
ELMAN_INLINE int64_t panel_groups(const Op& op, const Rows<typename Op::T>& rows, int64_t row, int64_t panel,
                                  int64_t end) {
  constexpr int P = panels_at_once(R, Op::NV);
  for (; panel + P <= end; panel += P) tile<Op, R, P, Op::NV>(op, rows, row, panel, true);
  return panel;
}

// The last panel, where at most half of its units exist and they are in the first of its two vectors.
template <class Op>
constexpr bool kHalves = Op::NV == 2 && Op::U == 2 * Simd<typename Op::T>::W;

template <class Op>
void product_block(const Op& op, const Rows<typename Op::T>& rows, int64_t end, int64_t panel, int64_t last,
                   int64_t units) {
  const int64_t row = rows.first, full = units / Op::U < last ? units / Op::U : last;
  if (end - row == 1) panel = panel_groups<Op, 1>(op, rows, row, panel, full);
  if (end - row == 2) panel = panel_groups<Op, 2>(op, rows, row, panel, full);
  constexpr int R = kTileRows<Op::NV>;
  for (; panel < last; ++panel) {
    if constexpr (kHalves<Op>)
      if (units - panel * Op::U <= Op::U / 2) return panel_rows<Op, R, 1>(op, rows, row, end, panel, false);
    panel_rows<Op, R, Op::NV>(op, rows, row, end, panel, panel < full);
  }
}

// Rows [row, end) × panels [panel, last), of `units` units in all, by blocks of rows that stay in an L2 cache.
template <class Op>
void product(const Op& op, int64_t row, int64_t end, int64_t panel, int64_t last, int64_t units) {
  using T = typename Op::T;
  static thread_local Memory<T> copies;
  constexpr int64_t R = kTileRows<Op::NV>, block_bytes = 256 << 10;
  const int64_t fitting = block_bytes / int64_t(sizeof(T)) / (op.depth + 1) / R * R,
                block = fitting < 4 * R ? 4 * R : fitting;
  for (; row < end; row += block) {
    const int64_t stop = end - row < block + R ? end : row + block;
    Rows<T> rows;
    rows.first = row;
    rows.count = op.factors(row, rows.factors);
    separate(rows, stop, copies);
    product_block(op, rows, stop, panel, last, units);
    if (stop == end) return;
  }
}

// w [G·units][depth] → [panel][depth][S][G][W] with S vectors of units in a panel, zeros past the last unit.
template <class T, int G, int S>
void pack(int64_t units, int64_t depth, const T* w, T* packed, int threads) {
  constexpr int W = Simd<T>::W;
  const int64_t count = panels(units, S * W);
#pragma omp parallel for num_threads(threads) if (threads > 1 && units * depth * G > 65536)
  for (int64_t panel = 0; panel < count; ++panel)
    for (int s = 0; s < S; ++s)
      for (int g = 0; g < G; ++g) {
        const int64_t unit = (panel * S + s) * W;
        const int64_t left = units - unit < 0 ? 0 : units - unit < W ? units - unit : W;
        const T* from = w + (g * units + unit) * depth;
        T* to = packed + (panel * depth * S * G + s * G + g) * W;
        int64_t k = 0;
        for (; left == W && k + W <= depth; k += W, to += W * S * G * W)
          transpose(from + k, depth, to, int64_t(S * G * W));
        for (; k < depth; ++k, to += S * G * W) {
          for (int64_t i = 0; i < left; ++i) to[i] = from[i * depth + k];
          for (int64_t i = left; i < W; ++i) to[i] = 0;
        }
      }
}

// Packed weights, `width` to a depth → the same in bfloat16, two depths to a word of 32 bits: half the bytes to read
// where those are the limit, widened in registers. Layout [panel][⌈depth / 2⌉][NV][W].
inline void narrow(int64_t panels, int64_t depth, int64_t width, const float* packed, float* to) {
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t k = 0; k < depth; k += 2, to += width) {
      const float* from = packed + (panel * depth + k) * width;
      for (int64_t i = 0; i < width; ++i) {
        const uint32_t word = to_bfloat16(from[i]) | (k + 1 < depth ? to_bfloat16(from[width + i]) << 16 : 0);
        std::memcpy(to + i, &word, sizeof word);
      }
    }
}

// y [out] = w [out][in] · x [in] + bias, of weights as they are: packing costs more than one use of them.
template <class T>
void matrix_vector(int64_t out, int64_t in, const T* w, const T* x, const T* bias, T* y) {
  constexpr int W = Simd<T>::W, R = 4;
  const int64_t whole = in / W * W;
  for (int64_t o = 0; o < out; o += R) {
    const int count = out - o < R ? int(out - o) : R;
    const T* rows[R];
    for (int r = 0; r < R; ++r) rows[r] = w + (o + (r < count ? r : 0)) * in;
    Vec<T> sum[R] = {};
    for (int64_t k = 0; k < whole; k += W) {
      const Vec<T> v = load(x + k);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r] += load(rows[r] + k) * v;
    }
    for (int r = 0; r < count; ++r) {
      T total = bias ? bias[o + r] : 0;
      for (int i = 0; i < W; ++i) total += sum[r][i];
      for (int64_t k = whole; k < in; ++k) total += rows[r][k] * x[k];
      y[o + r] = total;
    }
  }
}

}  // namespace elman::ELMAN_LEVEL
