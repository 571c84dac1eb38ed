#include "network.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace elman {
namespace {

constexpr int64_t kTableFloats = 8 << 20;  // a larger table would cost more memory than it saves time
constexpr int64_t kChunkFloats = 1 << 20;  // of projected input held at once

void pack(Scratch<float>& packed, const Kernels<float>& k, int64_t in, int64_t out, const float* w) {
  k.pack_linear(in, out, w, packed.get(k.linear_size(in, out)), 1);
}

// All biases that are added before the gates: b_ih + b_hh, but for the GRU's b_hn, which r multiplies.
std::vector<float> input_bias(Cell cell, int64_t H, const LayerWeights& w) {
  std::vector<float> bias(gates_of(cell) * H, 0.f);
  const size_t shared = cell == Cell::gru ? 2 * H : bias.size();
  for (size_t i = 0; w.b_ih && i < bias.size(); ++i) bias[i] += w.b_ih[i];
  for (size_t i = 0; w.b_hh && i < shared; ++i) bias[i] += w.b_hh[i];
  return bias;
}

uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

// xoshiro256++ (Blackman and Vigna, 2019), the upper 53 bits as a number in [0, 1).
double uniform(uint64_t s[4]) {
  const uint64_t result = rotl(s[0] + s[3], 23) + s[0], t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotl(s[3], 45);
  return double(result >> 11) * 0x1p-53;
}

double log_sum_exp(const float* x, int64_t n) {
  const float top = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - top);
  return top + std::log(sum);
}

}  // namespace

Network::Network(Cell cell, int64_t symbols, int64_t embedding_size, int64_t hidden, const float* embedding,
                 const std::vector<LayerWeights>& layers, const float* head_weight, const float* head_bias)
    : kernels_(kernels<float>()), cell_(cell), symbols_(symbols), embedding_size_(embedding_size), hidden_(hidden) {
  const int64_t GH = gate_size();
  for (const LayerWeights& w : layers) {
    Layer& layer = layers_.emplace_back();
    layer.in = w.in;
    layer.bias = input_bias(cell, hidden, w);
    if (cell == Cell::gru && w.b_hh) layer.b_hn.assign(w.b_hh + 2 * hidden, w.b_hh + 3 * hidden);
    pack(layer.w_ih, kernels_, w.in, GH, w.w_ih);
    kernels_.pack_forward(cell, hidden, w.w_hh, layer.w_hh.get(kernels_.forward_size(cell, hidden)), 1);
  }
  if (symbols * GH <= kTableFloats) {
    table_.resize(symbols * GH);
    kernels_.linear(
        {symbols, embedding_size, GH, embedding, layers_[0].w_ih.data(), layers_[0].bias.data(), table_.data()});
  } else {
    embedding_.assign(embedding, embedding + symbols * embedding_size);
  }
  pack(head_, kernels_, hidden, symbols, head_weight);
  head_bias_.assign(head_bias, head_bias + symbols);
}

// x [T][B][G·H]; token (b, t) is tokens[b·stride + t].
void Network::project_tokens(int64_t B, int64_t T, const int64_t* tokens, int64_t stride, float* x) const {
  const int64_t GH = gate_size();
  if (!table_.empty()) {
    for (int64_t t = 0; t < T; ++t)
      for (int64_t b = 0; b < B; ++b, x += GH) std::copy_n(&table_[tokens[b * stride + t] * GH], GH, x);
    return;
  }
  static thread_local Scratch<float> scratch;
  float* e = scratch.get(T * B * embedding_size_);
  for (int64_t t = 0, row = 0; t < T; ++t)
    for (int64_t b = 0; b < B; ++b, ++row)
      std::copy_n(&embedding_[tokens[b * stride + t] * embedding_size_], embedding_size_, e + row * embedding_size_);
  kernels_.linear({T * B, embedding_size_, GH, e, layers_[0].w_ih.data(), layers_[0].bias.data(), x});
}

// The last layer's hidden states [T][B][H], in memory that lasts until the next call in this thread.
const float* Network::run(int64_t B, int64_t T, const int64_t* tokens, int64_t stride, float* state,
                          int threads) const {
  static thread_local Scratch<float> x_memory, y_memory[2], state_memory;
  const int64_t GH = gate_size(), H = hidden_, size = state_size();
  float* x = x_memory.get(T * B * GH);
  project_tokens(B, T, tokens, stride, x);
  const float* y = nullptr;
  for (size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    if (l > 0) kernels_.linear({T * B, H, GH, y, layer.w_ih.data(), layer.bias.data(), x});
    float* out = y_memory[l % 2].get(T * B * H);
    float *h = state_memory.get(2 * B * H), *c = h + B * H;
    for (int64_t b = 0; b < B; ++b) {
      const float* from = state + b * size + l * parts() * H;
      std::copy_n(from, H, h + b * H);
      if (parts() == 2) std::copy_n(from + H, H, c + b * H);
    }
    Forward<float> p{};
    p.shape = {T, B, H, nullptr, false, threads};
    p.x = x;
    p.w_hh = layer.w_hh.data();
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

void Network::head(int64_t rows, const float* h, float* logits) const {
  kernels_.linear({rows, hidden_, symbols_, h, head_.data(), head_bias_.data(), logits});
}

void Network::feed(int64_t B, int64_t T, const int64_t* tokens, float* state, float* logits, int threads) const {
  static thread_local Scratch<float> memory;
  const int64_t V = symbols_, chunk = std::max<int64_t>(1, kChunkFloats / (B * gate_size()));
  for (int64_t t = 0; t < T; t += chunk) {
    const int64_t n = std::min(chunk, T - t);
    const float* h = run(B, n, tokens + t, T, state, threads);
    float* rows = B == 1 ? logits + t * V : memory.get(n * B * V);
    head(n * B, h, rows);
    if (B == 1) continue;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t b = 0; b < B; ++b) std::copy_n(rows + (i * B + b) * V, V, logits + (b * T + t + i) * V);
  }
}

void Network::score(int64_t B, int64_t T, const int64_t* tokens, float* state, float* nats, int threads) const {
  static thread_local Scratch<float> memory;
  const int64_t V = symbols_, chunk = std::max<int64_t>(1, kChunkFloats / (B * std::max(gate_size(), V)));
  for (int64_t t = 0; t < T; t += chunk) {
    const int64_t n = std::min(chunk, T - t);
    const float* h = run(B, n, tokens + t, T + 1, state, threads);
    float* logits = memory.get(n * B * V);
    head(n * B, h, logits);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t b = 0; b < B; ++b, logits += V)
        nats[b * T + t + i] = float(log_sum_exp(logits, V) - logits[tokens[b * (T + 1) + t + i + 1]]);
  }
}

void Network::generate(int64_t token, int64_t count, float* state, const Sampling& how, uint64_t* rng,
                       int64_t* out) const {
  std::vector<float> logits(symbols_), weight;
  std::vector<int32_t> order;
  for (int64_t i = 0; i < count; ++i) {
    head(1, run(1, 1, &token, 1, state, 1), logits.data());
    out[i] = token = sample(symbols_, logits.data(), how, rng, weight, order);
  }
}

int64_t sample(int64_t V, const float* logits, const Sampling& how, uint64_t rng[4], std::vector<float>& weight,
               std::vector<int32_t>& order) {
  const float* top = std::max_element(logits, logits + V);
  if (how.temperature == 0) return top - logits;
  weight.resize(V);
  order.resize(V);
  std::iota(order.begin(), order.end(), 0);
  const float scale = float(1 / how.temperature);
  for (int64_t v = 0; v < V; ++v) weight[v] = std::exp((logits[v] - *top) * scale);
  int64_t kept = V;
  if (how.top_k > 0 && how.top_k < V) {
    kept = how.top_k;
    std::partial_sort(order.begin(), order.begin() + kept, order.end(),
                      [&](int a, int b) { return weight[a] != weight[b] ? weight[a] > weight[b] : a < b; });
  }
  double total = 0;
  for (int64_t i = 0; i < kept; ++i) total += weight[order[i]];
  if (how.top_p < 1) {  // the smallest set of likeliest symbols whose probability reaches top_p
    std::sort(order.begin(), order.begin() + kept,
              [&](int a, int b) { return weight[a] != weight[b] ? weight[a] > weight[b] : a < b; });
    double sum = 0;
    for (int64_t i = 0; i < kept; ++i) {
      sum += weight[order[i]];
      if (sum >= how.top_p * total) kept = i + 1;
    }
    total = sum;
  }
  double u = uniform(rng) * total;
  for (int64_t i = 0; i < kept; ++i)
    if ((u -= weight[order[i]]) < 0) return order[i];
  return order[kept - 1];
}

}  // namespace elman
