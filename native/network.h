// A trained network over symbols, ready to run: embedding → stack of recurrent layers → linear head.
// State is the caller's, as in stack.h. Nothing here knows Python.
#pragma once

#include <cstdint>
#include <vector>

#include "scratch.h"
#include "stack.h"

namespace elman {

struct Sampling {
  double temperature;  // 0: the most likely symbol
  int64_t top_k;       // 0: all
  double top_p;        // 1: all
};

class Network {
 public:
  Network(Cell cell, int64_t symbols, int64_t embedding_size, int64_t hidden, const float* embedding,
          const std::vector<LayerWeights>& layers, const float* head_weight, const float* head_bias);

  int64_t symbols() const { return symbols_; }
  int64_t state_size() const { return stack_.state_size(); }

  // tokens [B][T] → logits [B][T][V]; state [B][state_size] is advanced.
  void feed(int64_t B, int64_t T, const int64_t* tokens, float* state, float* logits, int threads) const;
  // tokens [B][T + 1] → nats [B][T]: -log p of each token after the first, given those before it.
  void score(int64_t B, int64_t T, const int64_t* tokens, float* state, float* nats, int threads) const;
  // Feeds `token`, samples the next, feeds that, … `count` times: out [count].
  void generate(int64_t token, int64_t count, float* state, const Sampling& how, uint64_t* rng, int64_t* out) const;

 private:
  const float* run(int64_t B, int64_t T, const int64_t* tokens, int64_t stride, float* state, int threads) const;
  void head(int64_t rows, const float* h, float* logits, int threads) const;

  Stack stack_;
  int64_t symbols_, embedding_size_;
  std::vector<float> embedding_;  // [V][E]; empty where the table stands in for it
  std::vector<float> table_;      // [V][G·H]  the first layer's projection of every symbol
  Scratch<float> head_;
  std::vector<float> head_bias_;
};

// Draws one symbol from logits [V]; rng is xoshiro256++'s state. `work` [V] is overwritten.
int64_t sample(int64_t V, const float* logits, const Sampling& how, uint64_t rng[4], std::vector<float>& weight,
               std::vector<int32_t>& order);

}  // namespace elman
