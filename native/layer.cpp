#include "layer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "scratch.h"

namespace elman {
namespace {

constexpr int64_t kWorthSplitting = 400'000;  // weights of one step: fewer are read faster than a thread is woken
int64_t rows_at(const Shape& shape, int64_t t) { return shape.batch_sizes ? shape.batch_sizes[t] : shape.batch; }

}  // namespace

std::vector<int64_t> rows_before(const Shape& shape) {
  std::vector<int64_t> starts(shape.steps + 1, 0), order;
  for (int64_t t = 0; t < shape.steps; ++t) starts[t + 1] = starts[t] + rows_at(shape, t);
  order.reserve(starts.back());
  for (int64_t t = 0; t < shape.steps; ++t) {
    const int64_t before = shape.reverse ? t + 1 : t - 1;
    const int64_t known = before < 0 || before == shape.steps ? 0 : std::min(rows_at(shape, t), rows_at(shape, before));
    for (int64_t b = 0; b < rows_at(shape, t); ++b) {
      const bool reset = shape.resets && shape.resets[order.size()];
      order.push_back(reset ? ~(shape.batch + b) : b < known ? starts[before] + b : ~b);
    }
  }
  return order;
}

template <class T>
void forward_layer(Cell cell, const Input<T>& input, const T* w_hh, Forward<T> p) {
  static thread_local Scratch<T> packed_hh, packed_ih, chunk_memory, state_memory;
  const Kernels<T>& k = kernels<T>();
  const Shape whole = p.shape;
  const int64_t H = whole.hidden, B = whole.batch, GH = gates_of(cell) * H;
  p.w_hh = nullptr;
  if (w_hh) {
    T* packed = packed_hh.get(k.forward_size(cell, H));
    k.pack_forward(cell, H, w_hh, packed, whole.threads);
    p.w_hh = packed;
  }
  int64_t N = 0;
  for (int64_t t = 0; t < whole.steps; ++t) N += rows_at(whole, t);
  expect_writes(p.y, N * H);
  expect_writes(p.gates, N * GH);
  if (p.gates && cell == Cell::lstm) expect_writes(p.c, N * H);
  expect_writes(p.hidden_n, N * H);

  if (!input.x) {
    p.x = input.tokens ? input.table : input.projected;
    p.x_rows = input.tokens;
    return k.forward(cell, p);
  }
  T* w_ih = packed_ih.get(k.linear_size(input.size, GH));
  k.pack_linear(input.size, GH, input.w_ih, w_ih, whole.threads);

  // The state that the next chunk starts from; rows that have not begun keep the initial one.
  T *h = state_memory.get(2 * B * H), *c = h + B * H;
  std::copy_n(p.h0, B * H, h);
  const bool keeps_cells = p.c0 && p.gates;
  if (keeps_cells) std::copy_n(p.c0, B * H, c);
  const Forward<T> all = p;
  for (int64_t done = 0, row = whole.reverse ? N : 0; done < whole.steps;) {
    int64_t steps = 0, rows = 0, first = whole.reverse ? whole.steps - done : done;
    while (done + steps < whole.steps) {
      const int64_t more = rows_at(whole, whole.reverse ? first - 1 : done + steps);
      if (steps && (rows + more) * GH > kChunkFloats) break;
      rows += more;
      ++steps;
      if (whole.reverse) --first;
    }
    if (whole.reverse) row -= rows;
    T* x = chunk_memory.get(std::max(rows * GH, std::min(N * GH, kChunkFloats)));
    k.linear({rows, input.size, GH, whole.threads, input.x + row * input.size, w_ih, false, input.bias, x});
    p.shape.steps = steps;
    p.shape.batch = rows_at(whole, first);
    if (whole.batch_sizes) p.shape.batch_sizes = whole.batch_sizes + first;
    if (whole.resets) p.shape.resets = whole.resets + row;
    p.x = x;
    p.h0 = h;
    p.y = all.y + row * H;
    if (all.gates) p.gates = all.gates + row * GH;
    if (all.hidden_n) p.hidden_n = all.hidden_n + row * H;
    if (keeps_cells) {
      p.c0 = c;
      p.c = all.c + row * H;
    }
    k.forward(cell, p);
    const int64_t last = whole.reverse ? first : first + steps - 1, count = rows_at(whole, last);
    const int64_t at = whole.reverse ? 0 : rows - count;
    std::copy_n(p.y + at * H, count * H, h);
    if (keeps_cells) std::copy_n(p.c + at * H, count * H, c);
    done += steps;
    if (!whole.reverse) row += rows;
  }
}

template <class T>
void one_step(Cell cell, const OneStep<T>& p) {
  static thread_local Scratch<T> memory;
  const Kernels<T>& k = kernels<T>();
  const int64_t B = p.batch, I = p.input_size, H = p.hidden, GH = gates_of(cell) * H;
  T *x = memory.get(2 * B * GH + B * H), *product = x + B * GH, *zeros = product + B * GH;
  if (!p.h0) std::fill_n(zeros, B * H, T(0));
  const T* h0 = p.h0 ? p.h0 : zeros;
  const int parts = p.threads > 1 && GH * (I + H) > kWorthSplitting ? p.threads : 1;
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int part = 0; part < parts; ++part) {
    const int64_t at = GH * part / parts, rows = GH * (part + 1) / parts - at;
    for (int64_t b = 0; b < B; ++b) {
      k.matrix_vector(rows, I, p.w_ih + at * I, p.x + b * I, p.b_ih ? p.b_ih + at : nullptr, x + b * GH + at);
      k.matrix_vector(rows, H, p.w_hh + at * H, h0 + b * H, p.b_hh ? p.b_hh + at : nullptr, product + b * GH + at);
    }
  }
  Forward<T> f{};
  f.shape = {1, B, H, nullptr, false, 1};
  f.x = x;
  f.product = product;
  f.h0 = h0;
  f.y = p.h;
  f.c = p.c;
  k.forward(cell, f);
}

template <class T>
void backward_layer(Cell cell, const T* w_hh, Backward<T> p) {
  static thread_local Scratch<T> memory;
  const Kernels<T>& k = kernels<T>();
  p.w_hh = nullptr;
  if (w_hh) {
    T* packed = memory.get(k.backward_size(cell, p.shape.hidden));
    k.pack_backward(cell, p.shape.hidden, w_hh, packed, p.shape.threads);
    p.w_hh = packed;
  }
  k.backward(cell, p);
}

template <class T>
void weight_gradients(Cell cell, const Backward<T>& p, const WeightGradients<T>& to) {
  if (!to.w_hh) return;
  const Kernels<T>& k = kernels<T>();
  const int64_t H = p.shape.hidden, GH = gates_of(cell) * H;
  const std::vector<int64_t> order = rows_before(p.shape);
  const int64_t N = order.size();
  const int threads = p.shape.threads;
  if (to.x) k.outer({N, GH, to.input_size, threads, p.dgates, GH, to.x, nullptr, nullptr, to.w_ih, to.bias});
  T* sums = to.x ? nullptr : to.bias;
  const int64_t shared = cell == Cell::gru ? 2 * H : GH;
  k.outer({N, shared, H, threads, p.dgates, GH, p.y, order.data(), p.h0, to.w_hh, sums});
  if (cell == Cell::gru)
    k.outer({N, H, H, threads, p.dhidden_n, H, p.y, order.data(), p.h0, to.w_hh + 2 * H * H, to.b_hn});
}

template <class T>
void add_rows(int64_t rows, int64_t columns, int threads, const int64_t* index, const T* from, T* to) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && rows * columns > 65536)
  for (int part = 0; part < threads; ++part) {
    const int64_t begin = columns * part / threads, end = columns * (part + 1) / threads;
    for (int64_t i = 0; i < rows; ++i) {
      const T* row = from + i * columns;
      T* sum = to + index[i] * columns;
      for (int64_t k = begin; k < end; ++k) sum[k] += row[k];
    }
  }
}

void attend(const Shape& shape, const float* scores, const float* y, float* out) {
  const int64_t B = shape.batch, H = shape.hidden;
  std::vector<float> largest(scores, scores + B), total(B, 0.0f);
  const float* score = scores;
  for (int64_t t = 0; t < shape.steps; ++t)
    for (int64_t b = 0; b < rows_at(shape, t); ++b, ++score) largest[b] = std::max(largest[b], *score);
  std::fill_n(out, B * H, 0.0f);
  score = scores;
  for (int64_t t = 0; t < shape.steps; ++t)
    for (int64_t b = 0; b < rows_at(shape, t); ++b, ++score, y += H) {
      const float weight = std::exp(*score - largest[b]);
      total[b] += weight;
      for (int64_t j = 0; j < H; ++j) out[b * H + j] += weight * y[j];
    }
  for (int64_t b = 0; b < B; ++b)
    for (int64_t j = 0; j < H; ++j) out[b * H + j] /= total[b];
}

template <class T>
void linear(int64_t rows, int64_t in, int64_t out, bool transposed, int threads, const T* x, const T* w, const T* bias,
            T* y) {
  static thread_local Scratch<T> memory;
  const Kernels<T>& k = kernels<T>();
  T* packed = memory.get(k.linear_size(in, out));
  (transposed ? k.pack_transposed : k.pack_linear)(in, out, w, packed, threads);
  expect_writes(y, rows * out);
  k.linear({rows, in, out, threads, x, packed, false, bias, y});
}

template void forward_layer(Cell, const Input<float>&, const float*, Forward<float>);
template void forward_layer(Cell, const Input<double>&, const double*, Forward<double>);
template void one_step(Cell, const OneStep<float>&);
template void one_step(Cell, const OneStep<double>&);
template void backward_layer(Cell, const float*, Backward<float>);
template void backward_layer(Cell, const double*, Backward<double>);
template void weight_gradients(Cell, const Backward<float>&, const WeightGradients<float>&);
template void weight_gradients(Cell, const Backward<double>&, const WeightGradients<double>&);
template void add_rows(int64_t, int64_t, int, const int64_t*, const float*, float*);
template void add_rows(int64_t, int64_t, int, const int64_t*, const double*, double*);
template void linear(int64_t, int64_t, int64_t, bool, int, const float*, const float*, const float*, float*);
template void linear(int64_t, int64_t, int64_t, bool, int, const double*, const double*, const double*, double*);

}  // namespace elman
