// Runs programs: products by the tiles of product.h, everything else one operation at a time over tiles of rows ×
// units.
#pragma once

#include <algorithm>
#include <cstring>

#include "linear.h"
#include "program.h"
#include "threads.h"

namespace elman::ELMAN_LEVEL {

constexpr int64_t kTileNumbers = 512, kTileUnits = 256;

// Where an operand's tile lies: row r starts at p + r·stride.
template <class T>
struct Tile {
  T* p;
  int64_t stride;
};

template <class T, class F>
ELMAN_INLINE void lane_by_lane(Vec<T>& v, const F& f) {
  for (int i = 0; i < Simd<T>::W; ++i) v[i] = f(v[i]);
}

// Through memory: the compiler makes one instruction of this loop, but not of one over a vector's elements.
template <class T>
ELMAN_INLINE Vec<T> square_root(Vec<T> v) {
  alignas(64) T x[Simd<T>::W];
  store(x, v);
  for (int i = 0; i < Simd<T>::W; ++i) x[i] = std::sqrt(x[i]);
  return load(x);
}

// One vector's worth of every operation.
template <Op O, class V, class T>
ELMAN_INLINE V operate(V a, V b, V c, T) {
  const V zero{}, one = splat(T(1));
  if constexpr (O == Op::copy) return a;
  if constexpr (O == Op::neg) return -a;
  if constexpr (O == Op::tanh) return tanh(a);
  if constexpr (O == Op::sigmoid) return sigmoid(a);
  if constexpr (O == Op::exp) return exp(a);
  if constexpr (O == Op::expm1) return expm1(a);
  if constexpr (O == Op::log) return log(a);
  if constexpr (O == Op::log1p) return log1p(a);
  if constexpr (O == Op::sqrt) return square_root<T>(a);
  if constexpr (O == Op::sin) lane_by_lane<T>(a, [](T x) { return std::sin(x); });
  if constexpr (O == Op::cos) lane_by_lane<T>(a, [](T x) { return std::cos(x); });
  if constexpr (O == Op::erf) lane_by_lane<T>(a, [](T x) { return std::erf(x); });
  if constexpr (O == Op::abs) return a < zero ? -a : a;
  if constexpr (O == Op::sign) return a < zero ? -one : a > zero ? one : a;
  if constexpr (O == Op::relu) return a < zero ? zero : a;
  if constexpr (O == Op::add) return a + b;
  if constexpr (O == Op::sub) return a - b;
  if constexpr (O == Op::mul) return a * b;
  if constexpr (O == Op::div) return a / b;
  if constexpr (O == Op::max) return a != a || a > b ? a : b;
  if constexpr (O == Op::min) return a != a || a < b ? a : b;
  if constexpr (O == Op::less) return a < b ? one : zero;
  if constexpr (O == Op::dtanh) return a * (1 - b * b);
  if constexpr (O == Op::dsigmoid) return a * b * (1 - b);
  if constexpr (O == Op::where) return a != zero ? b : c;
  if constexpr (O == Op::fma) return a * b + c;
  return a;
}

template <Op O>
constexpr int kOperands = O == Op::where || O == Op::fma      ? 3
                          : O >= Op::add && O <= Op::dsigmoid ? 2
                                                              : 1;

// The mean of a row, in every unit of it.
template <class T>
void run_mean(const Tile<T>& d, const Tile<T>& a, int64_t rows, int64_t units) {
  constexpr int W = Simd<T>::W;
  const int64_t whole = units / W * W;
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = a.p + r * a.stride;
    T *to = d.p + r * d.stride, sum = 0;
    Vec<T> sums{};
    for (int64_t u = 0; u < whole; u += W) sums += load(from + u);
    for (int i = 0; i < W; ++i) sum += sums[i];
    for (int64_t u = whole; u < units; ++u) sum += from[u];
    sum /= units;
    for (int64_t u = 0; u < units; ++u) to[u] = sum;
  }
}

template <class T, Op O>
void run_operation(const Tile<T>& d, const Tile<T>& a, const Tile<T>& b, const Tile<T>& c, int64_t rows,
                   int64_t units) {
  if constexpr (O == Op::mean) return run_mean(d, a, rows, units);
  constexpr int W = Simd<T>::W, N = kOperands<O>;
  const int64_t whole = units / W * W;
  const Lanes<T, false> rest{int(units - whole)};
  for (int64_t r = 0; r < rows; ++r) {
    T* to = d.p + r * d.stride;
    const T *pa = a.p + r * a.stride, *pb = N > 1 ? b.p + r * b.stride : pa, *pc = N > 2 ? c.p + r * c.stride : pa;
    for (int64_t u = 0; u < whole; u += W)
      store(to + u, operate<O>(load(pa + u), N > 1 ? load(pb + u) : Vec<T>{}, N > 2 ? load(pc + u) : Vec<T>{}, T()));
    if (rest.count)
      rest.store(to + whole, operate<O>(rest.load(pa + whole), N > 1 ? rest.load(pb + whole) : Vec<T>{},
                                        N > 2 ? rest.load(pc + whole) : Vec<T>{}, T()));
  }
}

// One thread's run of a program over its rows.
template <class T>
class Interpreter {
 public:
  static constexpr int W = Simd<T>::W;

  // For rows of at most so many, and their units [unit, last).
  Interpreter(const Program& program, const ProgramCall<T>& call, int64_t most_rows, int64_t unit, int64_t last)
      : program_(program), call_(call), H_(call.shape.hidden), unit_(unit), last_(last), most_rows_(most_rows) {
    units_ = program.whole_rows || H_ <= 2 * kTileUnits ? H_ : kTileUnits;
    padded_ = (units_ + W - 1) / W * W;
    rows_ = std::max<int64_t>(1, kTileNumbers / padded_);
    int64_t local = 0;
    for (int i = 0; i < program.arrays; ++i)
      local += program.array[i].span == Span::local ? program.array[i].columns : 0;
    registers_ = memory().get((program.registers * rows_ + program.constants) * padded_ +
                              (local + program.states) * most_rows * H_);
    constants_ = registers_ + program.registers * rows_ * padded_;
    for (int i = 0; i < program.constants * padded_; ++i) constants_[i] = T(program.constant[i / padded_]);
    reset_ = constants_ + program.constants * padded_;
    T* free = reset_ + program.states * most_rows * H_;
    for (int i = 0; i < program.arrays; ++i)
      if (program.array[i].span == Span::local) {
        tiles_[i].p = free;
        free += most_rows * program.array[i].columns * H_;
      }
  }

  // Rows [row, end) of the step whose data begin at row `at`; the state before row 0 lies at row `from`, or -1:
  // initial.
  void step(int64_t at, int64_t row, int64_t end, int64_t from) {
    if (row >= end) return;
    place(at, row, end, from);
    for (int s = 0; s < program_.segments; ++s) {
      const Segment& segment = program_.segment[s];
      if (segment.left >= 0) multiply(segment, end - row);
      for (int64_t r = 0; r < end - row; r += rows_)
        for (int64_t u = unit_; u < last_; u += units_)
          for (int i = 0; i < segment.count; ++i)
            run(segment.instructions[i], r, u, std::min(rows_, end - row - r), std::min(units_, last_ - u));
    }
    if (call_.backward && call_.shape.resets) take_back(at, row, end);
  }

 private:
  // Unlike the products' copies, in use while they run.
  static Memory<T>& memory() {
    static thread_local Memory<T> memory;
    return memory;
  }

  void place(int64_t at, int64_t row, int64_t end, int64_t from) {
    const uint8_t* resets = call_.shape.resets ? call_.shape.resets + at : nullptr;
    const bool any = resets && std::memchr(resets + row, 1, end - row);
    for (int i = 0; i < program_.arrays; ++i) {
      const ArraySpec& a = program_.array[i];
      const int64_t stride = tiles_[i].stride = a.span == Span::all ? 0 : a.columns * H_;
      if (a.span == Span::now) tiles_[i].p = call_.arrays[i] + (at + row) * stride;
      if (a.span == Span::sequence) tiles_[i].p = call_.arrays[i] + row * stride;
      if (a.span == Span::all) tiles_[i].p = call_.arrays[i];
      if (a.span == Span::before) {
        const T* initial = call_.initial[a.state];
        const T* state = from < 0 ? initial + row * H_ : call_.arrays[i] + (from + row) * H_;
        tiles_[i].p = const_cast<T*>(any ? with_resets(a.state, state, initial, resets, row, end) : state);
      }
    }
  }

  const T* with_resets(int state, const T* before, const T* initial, const uint8_t* resets, int64_t row, int64_t end) {
    T* to = reset_ + state * most_rows_ * H_;
    for (int64_t b = row; b < end; ++b)
      std::memcpy(to + (b - row) * H_, resets[b] ? initial + (call_.shape.batch + b) * H_ : before + (b - row) * H_,
                  H_ * sizeof(T));
    return to;
  }

  // No gradient crosses a reset: it ends in the state that the reset put there.
  void take_back(int64_t at, int64_t row, int64_t end) {
    for (int s = 0; s < program_.states; ++s)
      for (int64_t b = row; b < end; ++b) {
        if (!call_.shape.resets[at + b]) continue;
        T *carried = call_.gradients[s] + b * H_, *to = carried + call_.shape.batch * H_;
        for (int64_t u = unit_; u < last_; ++u) {
          to[u] += carried[u];
          carried[u] = 0;
        }
      }
  }

  void multiply(const Segment& segment, int64_t rows) {
    const int64_t in = program_.array[segment.left].columns * H_, out = program_.array[segment.out].columns * H_;
    const Linear<T> p{rows,
                      in,
                      out,
                      1,
                      tiles_[segment.left].p,
                      call_.weights[segment.weights],
                      false,
                      call_.bias[segment.weights],
                      tiles_[segment.out].p};
    product(LinearOp<T>(p), 0, rows, 0, panels(out, LinearOp<T>::U), out);
  }

  Tile<T> tile(const Operand& o, int64_t row, int64_t unit) const {
    if (o.array == kRegister) return {registers_ + o.column * rows_ * padded_, padded_};
    if (o.array == kConstant) return {constants_ + o.column * padded_, 0};
    const Tile<T>& t = tiles_[o.array];
    return {t.p + row * t.stride + o.column * H_ + unit, t.stride};
  }

  void run(const Instruction& i, int64_t row, int64_t unit, int64_t rows, int64_t units) const {
    const Tile<T> d = tile(i.d, row, unit), a = tile(i.a, row, unit), b = tile(i.b, row, unit),
                  c = tile(i.c, row, unit);
    switch (i.op) {
#define ELMAN_RUN(name) \
  case Op::name:        \
    return run_operation<T, Op::name>(d, a, b, c, rows, units);
      ELMAN_OPERATIONS(ELMAN_RUN)
#undef ELMAN_RUN
    }
  }

  const Program& program_;
  const ProgramCall<T>& call_;
  const int64_t H_, unit_, last_;
  int64_t units_, padded_, rows_, most_rows_;  // of a tile; of this thread
  Tile<T> tiles_[kMostArrays];                 // of each array, the first row of the range
  T *registers_, *constants_, *reset_;
};

template <class T>
void run_program(const Program& program, const ProgramCall<T>& call) {
  const Shape& shape = call.shape;
  const Chain chain(shape, shape.reverse != call.backward);
  int64_t row_work = 0;
  bool apart = !program.whole_rows;  // no unit sees another
  for (int i = 0; i < program.segments; ++i) {
    const Segment& s = program.segment[i];
    const int64_t product =
        s.left < 0 ? 0 : program.array[s.left].columns * program.array[s.out].columns * shape.hidden;
    row_work += (s.count + product) * shape.hidden;
    apart = apart && s.left < 0;
  }
  share_rows_or_units(shape, chain.rows(), row_work, apart, Simd<T>::W, [&](const Share& share) {
    if (share.row >= share.row_end || share.panel >= share.panel_end) return;
    const int64_t last = std::min(shape.hidden, share.panel_end * Simd<T>::W), row = share.row;
    Interpreter<T> interpreter(program, call, share.row_end - row, share.panel * Simd<T>::W, last);
    for (int64_t s = 0; s < shape.steps; ++s) {
      const auto &now = chain[s], &before = call.backward ? chain[s + 1] : chain[s - 1];
      const int64_t end = std::min(share.row_end, now.count);
      const int64_t going_on = std::clamp(before.count, row, std::max(row, end));
      interpreter.step(now.at, row, std::min(going_on, end), before.at);
      interpreter.step(now.at, going_on, end, -1);
    }
  });
}

}  // namespace elman::ELMAN_LEVEL
