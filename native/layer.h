// One direction of a layer, from its input to its hidden states: the projection of the input is made in chunks of steps
// that stay in the cache until the recurrence has used them. Knows no time loop and no Python.
#pragma once

#include <vector>

#include "kernels.h"

namespace elman {

// Where the projected input [N][G·H] comes from. One of three: x and w_ih; tokens and table; projected.
template <class T>
struct Input {
  int64_t size;           // I
  const T* x;             // [N][I]
  const T* w_ih;          // [G·H][I]
  const T* bias;          // [G·H], or null
  const int64_t* tokens;  // [N]
  const T* table;         // [V][G·H]  the projection of every symbol
  const T* projected;     // [N][G·H]
};

// p.x is ignored. w_hh [G·H][H] is packed here; null: p.product is given, for one step.
template <class T>
void forward_layer(Cell cell, const Input<T>& input, const T* w_hh, Forward<T> p);

// One step of few rows, weights as PyTorch keeps them.
template <class T>
struct OneStep {
  int64_t batch, input_size, hidden;
  int threads;
  const T* x;     // [B][I]
  const T* w_ih;  // [G·H][I]
  const T* b_ih;  // [G·H], or null
  const T* w_hh;  // [G·H][H]
  const T* b_hh;  // [G·H], or null
  const T* h0;    // [B][H], or null: zeros
  T* h;           // [B][H]
  T* c;           // [B][H]  LSTM: the cell state, replaced
};

template <class T>
void one_step(Cell cell, const OneStep<T>& p);

// w_hh [G·H][H] as above; p.w_hh is ignored.
template <class T>
void backward_layer(Cell cell, const T* w_hh, Backward<T> p);

// Gradients of the weights once backward_layer has filled dgates and dhidden_n.
template <class T>
struct WeightGradients {
  int64_t input_size;
  const T* x;  // [N][I], or null: no gradient of w_ih wanted
  T* w_ih;     // [G·H][I]
  T* bias;     // [G·H], or null
  T* w_hh;     // [G·H][H], or null: nothing wanted. With resets, p.h0 is followed by p.h_reset in memory
  T* b_hn;     // [H]  GRU, or null
};

// For each row of the data the row of y that holds the state before it, or ~b: row b of h0; with resets, ~(B + b) where
// b was reset.
std::vector<int64_t> rows_before(const Shape& shape);

template <class T>
void weight_gradients(Cell cell, const Backward<T>& p, const WeightGradients<T>& to);

// Adds row i of from [rows][columns] to row index[i] of to.
template <class T>
void add_rows(int64_t rows, int64_t columns, int threads, const int64_t* index, const T* from, T* to);

// The mean of y [N][H] over the steps of each sequence, weighted by the softmax over them of scores [N] → out [B][H].
void attend(const Shape& shape, const float* scores, const float* y, float* out);

// y [rows][out] = x [rows][in] · wᵀ, w [out][in], + bias [out] or null. transposed: w [in][out], not transposed again.
template <class T>
void linear(int64_t rows, int64_t in, int64_t out, bool transposed, int threads, const T* x, const T* w, const T* bias,
            T* y);

}  // namespace elman
