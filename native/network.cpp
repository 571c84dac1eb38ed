#include "network.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace elman {
namespace {

constexpr int64_t kTableFloats = 8 << 20;  // a larger table would cost more memory than it saves time

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
    : stack_(cell, hidden, layers), symbols_(symbols), embedding_size_(embedding_size) {
  if (symbols * stack_.gate_size() <= kTableFloats) {
    table_.resize(symbols * stack_.gate_size());
    stack_.project(symbols, embedding, table_.data(), 1);
  } else {
    embedding_.assign(embedding, embedding + symbols * embedding_size);
  }
  const Kernels<float>& k = stack_.kernels();
  k.pack_linear(hidden, symbols, head_weight, head_.get(k.linear_size(hidden, symbols)), 1);
  head_bias_.assign(head_bias, head_bias + symbols);
}

// The last layer's hidden states [T][B][H], in memory that lasts until the next call in this thread; token (b, t) is
// tokens[b·stride + t].
const float* Network::run(int64_t B, int64_t T, const int64_t* tokens, int64_t stride, float* state,
                          int threads) const {
  static thread_local Scratch<int64_t> order_memory;
  static thread_local Scratch<float> embedded_memory, x_memory;
  const int64_t N = T * B, E = embedding_size_;
  int64_t* order = order_memory.get(N);
  for (int64_t t = 0; t < T; ++t)
    for (int64_t b = 0; b < B; ++b) order[t * B + b] = tokens[b * stride + t];
  if (!table_.empty()) return stack_.run(T, B, table_.data(), order, state, threads);
  float *embedded = embedded_memory.get(N * E), *x = x_memory.get(N * stack_.gate_size());
  for (int64_t i = 0; i < N; ++i) std::copy_n(embedding_.data() + order[i] * E, E, embedded + i * E);
  stack_.project(N, embedded, x, threads);
  return stack_.run(T, B, x, nullptr, state, threads);
}

void Network::head(int64_t rows, const float* h, float* logits, int threads) const {
  stack_.kernels().linear(
      {rows, stack_.hidden_size(), symbols_, threads, h, head_.data(), false, head_bias_.data(), logits});
}

void Network::feed(int64_t B, int64_t T, const int64_t* tokens, float* state, float* logits, int threads) const {
  static thread_local Scratch<float> memory;
  const int64_t V = symbols_, chunk = std::max<int64_t>(1, kChunkFloats / (B * stack_.gate_size()));
  for (int64_t t = 0; t < T; t += chunk) {
    const int64_t n = std::min(chunk, T - t);
    const float* h = run(B, n, tokens + t, T, state, threads);
    float* rows = B == 1 ? logits + t * V : memory.get(n * B * V);
    head(n * B, h, rows, threads);
    if (B == 1) continue;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t b = 0; b < B; ++b) std::copy_n(rows + (i * B + b) * V, V, logits + (b * T + t + i) * V);
  }
}

void Network::score(int64_t B, int64_t T, const int64_t* tokens, float* state, float* nats, int threads) const {
  static thread_local Scratch<float> memory;
  const int64_t V = symbols_, chunk = std::max<int64_t>(1, kChunkFloats / (B * std::max(stack_.gate_size(), V)));
  for (int64_t t = 0; t < T; t += chunk) {
    const int64_t n = std::min(chunk, T - t);
    const float* h = run(B, n, tokens + t, T + 1, state, threads);
    float* logits = memory.get(n * B * V);
    head(n * B, h, logits, threads);
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
    head(1, run(1, 1, &token, 1, state, 1), logits.data(), 1);
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
