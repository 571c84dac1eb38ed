// A stack of recurrent layers, ready to run: weights packed once, as float32 or, narrow, as bfloat16.
// State is the caller's: one row of floats per stream, [layer][h | h and c][H]. Nothing here knows Python.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"
#include "scratch.h"

namespace elman {

struct LayerWeights {
  int64_t in;
  const float* w_ih;  // [G·H][in]
  const float* w_hh;  // [G·H][H]
  const float* b_ih;  // [G·H], or null
  const float* b_hh;  // [G·H], or null
};

class Stack {
 public:
  Stack(Cell cell, int64_t hidden, const std::vector<LayerWeights>& layers, bool narrow = false);
  Stack(const Stack&) = delete;

  int64_t input_size() const { return layers_[0].in; }
  int64_t hidden_size() const { return hidden_; }
  int64_t gate_size() const { return gates_of(cell_) * hidden_; }
  int64_t state_size() const { return layers_.size() * hidden_ * parts(); }
  const Kernels<float>& kernels() const { return kernels_; }

  // The first layer's projection: x [rows][I] → projected [rows][G·H].
  void project(int64_t rows, const float* x, float* projected, int threads) const;
  // The first layer's projection [T][B][G·H], or with x_rows [T][B] the rows of a table that make it up → the last
  // layer's hidden states [T][B][H], in memory that lasts until the next call in this thread; state [B][state_size] is
  // advanced.
  const float* run(int64_t T, int64_t B, const float* projected, const int64_t* x_rows, float* state,
                   int threads) const;
  // x [T][B][I] → y [T][B][H]; state is advanced.
  void feed(int64_t T, int64_t B, const float* x, float* state, float* y, int threads) const;

 private:
  struct Layer {
    Scratch<float> w_ih, w_hh;  // packed
    std::vector<float> bias, b_hn;
    int64_t in;
  };

  int64_t parts() const { return cell_ == Cell::lstm ? 2 : 1; }
  void project(const Layer& layer, int64_t rows, const float* x, float* projected, int threads) const;

  const Kernels<float>& kernels_;
  Cell cell_;
  int64_t hidden_;
  bool narrow_;
  std::vector<Layer> layers_;
};

}  // namespace elman
