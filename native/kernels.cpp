// The time loops, forward and backward. Compiled once per CPU level.
#include "kernels.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cells.h"
#include "interpret.h"
#include "linear.h"
#include "outer.h"
#include "product.h"
#include "threads.h"

namespace elman::ELMAN_LEVEL {
namespace {

// A panel holds S vectors of units with G gates each: enough sums for full tiles whatever the cell.
template <Cell C>
constexpr int kVectors = gates_of(C) == 1 ? 2 : 1;

inline bool any_reset(const Shape& shape, int64_t at, int64_t row, int64_t end) {
  return shape.resets && row < end && std::memchr(shape.resets + at + row, 1, end - row);
}

// Rows [row, end) of the state before a step, at their places, with those that are reset; of their units, [unit, last).
template <class T>
const T* with_resets(const Shape& shape, int64_t at, int64_t row, int64_t end, int64_t unit, int64_t last,
                     const T* state, const T* reset, Memory<T>& memory) {
  const int64_t H = shape.hidden;
  T* to = memory.get(end * H);
  for (int64_t b = row; b < end; ++b)
    std::memcpy(to + b * H + unit, (shape.resets[at + b] ? reset : state) + b * H + unit, (last - unit) * sizeof(T));
  return to;
}

template <class T_, Cell C, bool Train, bool Narrow>
struct ForwardStep {
  using T = T_;
  static constexpr bool narrow = Narrow;
  using V = Vec<T>;
  static constexpr int W = Simd<T>::W, G = gates_of(C), S = kVectors<C>, NV = S * G, U = S * W;

  const Forward<T>& p;
  const T* w;
  int64_t H, depth;
  int64_t at = 0;         // this step's first row of the data
  const T* h = nullptr;   // [B][H] the state before this step
  const T* c0 = nullptr;  // [B][H]
  T* c1 = nullptr;        // [B][H] the cell state after it

  explicit ForwardStep(const Forward<T>& p) : p(p), w(p.w_hh), H(p.shape.hidden), depth(H) {}

  // Rows [row, end). `from` is the row of the data that holds the state before row 0 of this step, or -1: the initial.
  void place(int64_t step_at, int64_t from, int64_t row, int64_t end, const Share& share) {
    static thread_local Memory<T> h_memory, c_memory;
    at = step_at;
    h = from < 0 ? p.h0 : p.y + from * H;
    if constexpr (C == Cell::lstm) {
      c0 = !Train ? p.c : from < 0 ? p.c0 : p.c + from * H;
      c1 = Train ? p.c + at * H : p.c;
    }
    if (!any_reset(p.shape, at, row, end)) return;
    h = with_resets(p.shape, at, row, end, 0, H, h, p.h_reset, h_memory);
    if constexpr (C == Cell::lstm)
      c0 = with_resets(p.shape, at, row, end, share.panel * U, std::min(H, share.panel_end * U), c0, p.c_reset,
                       c_memory);
  }

  int factors(int64_t row, Factor<T>* f) const {
    f[0] = {h + row * H, H, H, 0};
    return w ? 1 : 0;
  }

  template <bool Full>
  [[gnu::noinline]] void finish(const T* sums, int rows, int64_t row, int64_t unit) const {
    for (int r = 0; r < rows; ++r)
      for (int s = 0; s < S; ++s, sums += G * W) {
        const Lanes<T, Full> lanes{int(std::clamp<int64_t>(H - unit - s * W, 0, W))};
        V a[G];
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g) a[g] = load(sums + g * W);
        if (Full || lanes.count > 0) cell(lanes, a, row + r, unit + s * W);
      }
  }

  template <class L>
  ELMAN_INLINE void cell(const L& lanes, V (&a)[G], int64_t b, int64_t unit) const {
    const int64_t row = at + b;
    if (!w && p.product) {
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) a[g] += lanes.load(p.product + (row * G + g) * H + unit);
    }
    const T* x = p.x + (p.x_rows ? p.x_rows[row] : row) * G * H + unit;
    V state;
    if constexpr (C == Cell::lstm) {
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) a[g] += lanes.load(x + g * H);
      V cell = lanes.load(c0 + b * H + unit);
      state = Lstm::forward(a, cell);
      lanes.store(c1 + b * H + unit, cell);
    } else if constexpr (C == Cell::gru) {
      const V q = p.b_hn ? a[2] + lanes.load(p.b_hn + unit) : a[2];
      a[0] += lanes.load(x);
      a[1] += lanes.load(x + H);
      a[2] = lanes.load(x + 2 * H);
      state = Gru::forward(a, q, lanes.load(h + b * H + unit));
      if constexpr (Train) lanes.store(p.hidden_n + row * H + unit, q);
    } else {
      state = Rnn<C>::activate(a[0] + lanes.load(x));
    }
    if constexpr (Train && G > 1) {
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) lanes.store(p.gates + (row * G + g) * H + unit, a[g]);
    }
    lanes.store(p.y + row * H + unit, state);
  }
};

template <class T, Cell C, bool Train, bool Narrow = false>
void forward_pass(const Forward<T>& p) {
  using Step = ForwardStep<T, C, Train, Narrow>;
  const int64_t H = p.shape.hidden, count = panels(H, Step::U);
  const Chain chain(p.shape, p.shape.reverse);
  share_out(p.shape, chain.rows(), count, Step::G * H * (p.w_hh ? H : kPointwise),
            [&](const Share& share, Barrier& barrier) {
              Step step(p);
              for (int64_t s = 0; s < p.shape.steps; ++s, barrier.wait()) {
                const int64_t end = std::min(share.row_end, chain[s].count);
                const int64_t going_on = s == 0 ? 0 : std::min(end, chain[s - 1].count);
                if (share.row < going_on) {
                  step.place(chain[s].at, chain[s - 1].at, share.row, going_on, share);
                  product(step, share.row, going_on, share.panel, share.panel_end, H);
                }
                const int64_t fresh = std::max(share.row, going_on);
                if (fresh < end) {
                  step.place(chain[s].at, -1, fresh, end, share);
                  product(step, fresh, end, share.panel, share.panel_end, H);
                }
              }
            });
}

template <class T, Cell C>
void forward_cell(const Forward<T>& p) {
  const bool train = C == Cell::gru ? p.hidden_n != nullptr : p.gates != nullptr;
  if constexpr (std::is_same_v<T, float>)
    if (p.narrow) return forward_pass<T, C, false, true>(p);
  train ? forward_pass<T, C, true>(p) : forward_pass<T, C, false>(p);
}

// Gradient through one step: dh = dgates[next]·W_hh + carried + dy, then the cell's equations backward.
template <class T_, Cell C>
struct BackwardStep {
  using T = T_;
  static constexpr bool narrow = false;
  using V = Vec<T>;
  static constexpr int W = Simd<T>::W, G = gates_of(C), S = 2, NV = S, U = S * W;

  const Backward<T>& p;
  const T* w;
  int64_t H, depth;
  int64_t at = 0;         // this step's first row of the data
  int64_t next = -1;      // the first row of the step that came after it, or -1: none
  const T* h = nullptr;   // [B][H] the state before this step
  const T* c0 = nullptr;  // [B][H]
  bool only_product = false;

  explicit BackwardStep(const Backward<T>& p) : p(p), w(p.w_hh), H(p.shape.hidden), depth(G * H) {}

  void place(int64_t step_at, int64_t next_at, int64_t from, int64_t row, int64_t end) {
    static thread_local Memory<T> h_memory, c_memory;
    at = step_at;
    next = next_at;
    h = from < 0 ? p.h0 : p.y + from * H;
    if constexpr (C == Cell::lstm) c0 = from < 0 ? p.c0 : p.c + from * H;
    if (!any_reset(p.shape, at, row, end)) return;
    if constexpr (C == Cell::gru) h = with_resets(p.shape, at, row, end, 0, H, h, p.h_reset, h_memory);
    if constexpr (C == Cell::lstm) c0 = with_resets(p.shape, at, row, end, 0, H, c0, p.c_reset, c_memory);
  }

  int factors(int64_t b, Factor<T>* f) const {
    if (!w || next < 0) return 0;
    const T* d = p.dgates + (next + b) * G * H;
    f[0] = {d, G * H, C == Cell::gru ? 2 * H : G * H, 0};
    if (C == Cell::gru) f[1] = {p.dhidden_n + (next + b) * H, H, H, 2 * H};
    return C == Cell::gru ? 2 : 1;
  }

  template <bool Full>
  [[gnu::noinline]] void finish(const T* sums, int rows, int64_t b, int64_t unit) const {
    for (int r = 0; r < rows; ++r)
      for (int s = 0; s < S; ++s, sums += W) {
        const Lanes<T, Full> lanes{int(std::clamp<int64_t>(H - unit - s * W, 0, W))};
        if (Full || lanes.count > 0) cell(lanes, load(sums), b + r, unit + s * W);
      }
  }

  // No gradient crosses a reset: it ends in the state that the reset put there.
  template <class L>
  ELMAN_INLINE void end_at_reset(const L& lanes, V& dh, int64_t i) const {
    lanes.store(p.dh_reset + i, lanes.load(p.dh_reset + i) + dh);
    dh = V{};
    if constexpr (C == Cell::lstm) {
      lanes.store(p.dc_reset + i, lanes.load(p.dc_reset + i) + lanes.load(p.dc + i));
      lanes.store(p.dc + i, V{});
    }
  }

  template <class L>
  ELMAN_INLINE void cell(const L& lanes, V dh, int64_t b, int64_t unit) const {
    T* carried = p.dh + b * H + unit;
    dh += lanes.load(carried);
    if (p.shape.resets && next >= 0 && p.shape.resets[next + b]) end_at_reset(lanes, dh, b * H + unit);
    if (only_product) return lanes.store(carried, dh);
    const int64_t row = at + b;
    if (p.dy) dh += lanes.load(p.dy + row * H + unit);
    T* d = p.dgates + row * G * H + unit;
    V a[G], direct{};
    if constexpr (G > 1) {
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) a[g] = lanes.load(p.gates + (row * G + g) * H + unit);
    }
    if constexpr (C == Cell::lstm) {
      T* dc = p.dc + b * H + unit;
      const V c = lanes.load(p.c + row * H + unit);
      lanes.store(dc, Lstm::backward(dh, lanes.load(dc), a, c, lanes.load(c0 + b * H + unit)));
    } else if constexpr (C == Cell::gru) {
      V q = lanes.load(p.hidden_n + row * H + unit);
      direct = Gru::backward(dh, a, q, lanes.load(h + b * H + unit));
      lanes.store(p.dhidden_n + row * H + unit, q);
    } else {
      a[0] = Rnn<C>::backward(dh, lanes.load(p.y + row * H + unit));
    }
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) lanes.store(d + g * H, a[g]);
    lanes.store(carried, direct);
  }
};

template <class T, Cell C>
void backward_pass(const Backward<T>& p) {
  using Step = BackwardStep<T, C>;
  const int64_t H = p.shape.hidden, count = panels(H, Step::U);
  const Chain chain(p.shape, !p.shape.reverse);
  share_out(
      p.shape, chain.rows(), count, Step::G * H * (p.w_hh ? H : kPointwise), [&](const Share& share, Barrier& barrier) {
        Step step(p);
        for (int64_t s = 0; s < p.shape.steps; ++s) {
          const auto &now = chain[s], &later = chain[s - 1], &earlier = chain[s + 1];
          const int64_t end = std::min(share.row_end, now.count);
          const int64_t cuts[] = {std::min(later.count, earlier.count), std::max(later.count, earlier.count), end};
          int64_t row = share.row;
          for (const int64_t cut : cuts) {
            const int64_t stop = std::min(cut, end);
            if (row >= stop) continue;
            step.place(now.at, row < later.count ? later.at : -1, row < earlier.count ? earlier.at : -1, row, stop);
            product(step, row, stop, share.panel, share.panel_end, H);
            row = stop;
          }
          barrier.wait();
          const int64_t finished = std::max(share.row, earlier.count);
          if (p.w_hh && finished < end) {
            step.next = now.at;
            step.only_product = true;
            product(step, finished, end, share.panel, share.panel_end, H);
            step.only_product = false;
          }
        }
      });
}

// One function for each cell, chosen at run time.
template <class T, Cell C>
size_t forward_size_cell(int64_t H) {
  return panels(H, kVectors<C> * Simd<T>::W) * kVectors<C> * Simd<T>::W * gates_of(C) * H;
}

template <class F>
decltype(auto) with_cell(Cell cell, const F& f) {
  switch (cell) {
    case Cell::rnn_tanh:
      return f.template operator()<Cell::rnn_tanh>();
    case Cell::rnn_relu:
      return f.template operator()<Cell::rnn_relu>();
    case Cell::rnn_sigmoid:
      return f.template operator()<Cell::rnn_sigmoid>();
    case Cell::gru:
      return f.template operator()<Cell::gru>();
    default:
      return f.template operator()<Cell::lstm>();
  }
}

template <class T>
struct Functions {
  static size_t forward_size(Cell cell, int64_t H) {
    return with_cell(cell, [&]<Cell C>() { return forward_size_cell<T, C>(H); });
  }
  static void pack_forward(Cell cell, int64_t H, const T* w, T* packed, int threads) {
    with_cell(cell, [&]<Cell C>() { pack<T, gates_of(C), kVectors<C>>(H, H, w, packed, threads); });
  }
  static void forward(Cell cell, const Forward<T>& p) {
    with_cell(cell, [&]<Cell C>() { forward_cell<T, C>(p); });
  }
  static size_t backward_size(Cell cell, int64_t H) {
    return panels(H, 2 * Simd<T>::W) * 2 * Simd<T>::W * gates_of(cell) * H;
  }
  static void pack_backward(Cell cell, int64_t H, const T* w, T* packed, int threads) {
    pack_transposed(gates_of(cell) * H, H, w, packed, threads);
  }
  static void backward(Cell cell, const Backward<T>& p) {
    with_cell(cell, [&]<Cell C>() { backward_pass<T, C>(p); });
  }
  static size_t linear_size(int64_t in, int64_t out) { return panels(out, LinearOp<T>::U) * LinearOp<T>::U * in; }
  static void pack_linear(int64_t in, int64_t out, const T* w, T* packed, int threads) {
    pack<T, 1, LinearOp<T>::NV>(out, in, w, packed, threads);
  }
  // [depth][units] → [panel][depth][U]
  static void pack_transposed(int64_t depth, int64_t units, const T* w, T* packed, int threads) {
    constexpr int U = 2 * Simd<T>::W;
#pragma omp parallel for num_threads(threads) if (threads > 1 && depth * units > 65536)
    for (int64_t panel = 0; panel < panels(units, U); ++panel) {
      const int64_t left = std::min<int64_t>(U, units - panel * U);
      T* to = packed + panel * depth * U;
      for (int64_t k = 0; k < depth; ++k, to += U) {
        std::memcpy(to, w + k * units + panel * U, left * sizeof(T));
        for (int64_t i = left; i < U; ++i) to[i] = 0;
      }
    }
  }
  static void linear(const Linear<T>& p) {
    if constexpr (std::is_same_v<T, float>)
      if (p.narrow) return linear_by<LinearOp<T, true>>(p);
    linear_by<LinearOp<T>>(p);
  }
  template <class Op>
  static void linear_by(const Linear<T>& p) {
    share_rows(p.rows, p.threads, p.rows * p.in * p.out,
               [&](int64_t row, int64_t end) { product(Op(p), row, end, 0, panels(p.out, Op::U), p.out); });
  }
  static void narrow_forward(Cell cell, int64_t H, const float* packed, float* to) {
    with_cell(cell, [&]<Cell C>() {
      constexpr int64_t U = kVectors<C> * Simd<float>::W;
      narrow(panels(H, U), H, U * gates_of(C), packed, to);
    });
  }
  static void narrow_linear(int64_t in, int64_t out, const float* packed, float* to) {
    constexpr int64_t U = LinearOp<float>::U;
    narrow(panels(out, U), in, U, packed, to);
  }

  static void matrix_vector(int64_t out, int64_t in, const T* w, const T* x, const T* bias, T* y) {
    ELMAN_LEVEL::matrix_vector(out, in, w, x, bias, y);
  }
  static void outer(const Outer<T>& p) { ELMAN_LEVEL::outer(p); }
  static void run_program(const Program& program, const ProgramCall<T>& call) {
    ELMAN_LEVEL::run_program(program, call);
  }

  static constexpr Kernels<T> table{forward_size,    pack_forward,  forward,       narrow_forward, narrow_linear,
                                    backward_size,   pack_backward, backward,      linear_size,    pack_linear,
                                    pack_transposed, linear,        matrix_vector, outer,          run_program};
};

bool supported() { return ELMAN_SUPPORTED; }

}  // namespace

#define ELMAN_STRING_(x) #x
#define ELMAN_STRING(x) ELMAN_STRING_(x)
extern const Level the_level;
const Level the_level{ELMAN_STRING(ELMAN_LEVEL), supported, Functions<float>::table, Functions<double>::table};

}  // namespace elman::ELMAN_LEVEL
