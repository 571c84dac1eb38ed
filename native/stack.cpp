#include "stack.h"

#include <algorithm>

namespace elman {
namespace {

// All biases that are added before the gates: b_ih + b_hh, but for the GRU's b_hn, which r multiplies.
std::vector<float> input_bias(Cell cell, int64_t H, const LayerWeights& w) {
  std::vector<float> bias(gates_of(cell) * H, 0.f);
  const size_t shared = cell == Cell::gru ? 2 * H : bias.size();
  for (size_t i = 0; w.b_ih && i < bias.size(); ++i) bias[i] += w.b_ih[i];
  for (size_t i = 0; w.b_hh && i < shared; ++i) bias[i] += w.b_hh[i];
  return bias;
}

}  // namespace

Stack::Stack(Cell cell, int64_t hidden, const std::vector<LayerWeights>& layers, bool narrow)
    : kernels_(elman::kernels<float>()), cell_(cell), hidden_(hidden), narrow_(narrow) {
  const int64_t GH = gate_size();
  Scratch<float> memory;
  // The weights of `depth` inputs that `pack` writes, or those that `narrow_packed` makes of them.
  const auto keep = [&](Scratch<float>& to, size_t size, int64_t depth, auto pack, auto narrow_packed) {
    if (!narrow) return pack(to.get(size));
    float* packed = memory.get(size);
    pack(packed);
    narrow_packed(packed, to.get(size / depth * ((depth + 1) / 2)));
  };
  for (const LayerWeights& w : layers) {
    Layer& layer = layers_.emplace_back();
    layer.in = w.in;
    layer.bias = input_bias(cell, hidden, w);
    if (cell == Cell::gru && w.b_hh) layer.b_hn.assign(w.b_hh + 2 * hidden, w.b_hh + 3 * hidden);
    keep(
        layer.w_ih, kernels_.linear_size(w.in, GH), w.in,
        [&](float* to) { kernels_.pack_linear(w.in, GH, w.w_ih, to, 1); },
        [&](const float* packed, float* to) { kernels_.narrow_linear(w.in, GH, packed, to); });
    keep(
        layer.w_hh, kernels_.forward_size(cell, hidden), hidden,
        [&](float* to) { kernels_.pack_forward(cell, hidden, w.w_hh, to, 1); },
        [&](const float* packed, float* to) { kernels_.narrow_forward(cell, hidden, packed, to); });
  }
}

void Stack::project(const Layer& layer, int64_t rows, const float* x, float* projected, int threads) const {
  kernels_.linear({rows, layer.in, gate_size(), threads, x, layer.w_ih.data(), narrow_, layer.bias.data(), projected});
}

void Stack::project(int64_t rows, const float* x, float* projected, int threads) const {
  project(layers_[0], rows, x, projected, threads);
}

const float* Stack::run(int64_t T, int64_t B, const float* projected, const int64_t* x_rows, float* state,
                        int threads) const {
  static thread_local Scratch<float> x_memory, y_memory[2], state_memory;
  const int64_t H = hidden_, size = state_size();
  const float* y = nullptr;
  for (size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    if (l > 0) {
      float* x = x_memory.get(T * B * gate_size());
      project(layer, T * B, y, x, threads);
      projected = x;
    }
    float* out = y_memory[l % 2].get(T * B * H);
    float *h = state_memory.get(2 * B * H), *c = h + B * H;
    for (int64_t b = 0; b < B; ++b) {
      const float* from = state + b * size + l * parts() * H;
      std::copy_n(from, H, h + b * H);
      if (parts() == 2) std::copy_n(from + H, H, c + b * H);
    }
    Forward<float> p{};
    p.shape = {T, B, H, nullptr, false, threads};
    p.x = projected;
    p.x_rows = l > 0 ? nullptr : x_rows;
    p.w_hh = layer.w_hh.data();
    p.narrow = narrow_;
    p.b_hn = layer.b_hn.empty() ? nullptr : layer.b_hn.data();
    p.h0 = h;
    p.y = out;
    p.c = c;
    kernels_.forward(cell_, p);
    for (int64_t b = 0; b < B; ++b) {
      float* to = state + b * size + l * parts() * H;
      std::copy_n(out + ((T - 1) * B + b) * H, H, to);
      if (parts() == 2) std::copy_n(c + b * H, H, to + H);
    }
    y = out;
  }
  return y;
}

void Stack::feed(int64_t T, int64_t B, const float* x, float* state, float* y, int threads) const {
  static thread_local Scratch<float> memory;
  const int64_t chunk = std::max<int64_t>(1, kChunkFloats / (B * gate_size()));
  for (int64_t t = 0; t < T; t += chunk) {
    const int64_t n = std::min(chunk, T - t);
    float* projected = memory.get(n * B * gate_size());
    project(n * B, x + t * B * input_size(), projected, threads);
    std::copy_n(run(n, B, projected, nullptr, state, threads), n * B * hidden_, y + t * B * hidden_);
  }
}

}  // namespace elman
