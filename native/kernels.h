// The contract of the kernels: a shape for every pointer. Nothing here depends on the CPU level.
//
// T steps, B sequences, H hidden units, G gates (RNN 1, GRU 3, LSTM 4), N rows of time-major data.
// Padded data has N = T·B. Packed data has batch_sizes[t] rows at step t, non-increasing: sequences sorted by length,
// longest first, as in torch's PackedSequence. All arrays are C-contiguous and gates lie in PyTorch's order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace elman {

enum class Cell : int { rnn_tanh, rnn_relu, rnn_sigmoid, gru, lstm };
constexpr int kCells = 5;

constexpr int gates_of(Cell cell) { return cell == Cell::lstm ? 4 : cell == Cell::gru ? 3 : 1; }

struct Shape {
  int64_t steps, batch, hidden;
  const int64_t* batch_sizes;       // [T], or null: padded
  bool reverse;                     // run from each sequence's last step to its first
  int threads;                      // at most so many; the result does not depend on it
  const uint8_t* resets = nullptr;  // [N], or null: 1 where a row's state is set anew before its step
};

template <class T>
struct Forward {
  Shape shape;
  const T* x;             // [N][G·H]  projected input, with every bias but b_hn
  const int64_t* x_rows;  // [N]  the row of x that each row of the data takes, or null: its own
  const T* w_hh;          // packed by pack_forward, or null: `product` is given
  bool narrow;            // w_hh went through narrow_forward (float32, not training)
  const T* product;       // [N][G·H]  h·W_hhᵀ where the caller has computed it (one step only)
  const T* b_hn;          // [H]       GRU: bias of W_hn h, or null
  const T* h0;            // [B][H]
  const T* c0;            // [B][H]    LSTM
  const T* h_reset;       // [B][H]    with resets: what they set
  const T* c_reset;       // [B][H]
  T* y;                   // [N][H]    hidden states
  T* c;                   // LSTM: cell states [N][H] when training; else [B][H], c0 on entry, the last state on return
  T* gates;               // [N][G·H]  GRU, LSTM: activated gates, may be x itself; null when not training
  T* hidden_n;            // [N][H]    GRU, training: W_hn h + b_hn
};

template <class T>
struct Backward {
  Shape shape;
  const T* w_hh;      // packed by pack_backward, or null: the caller multiplies dgates by W_hh (one step only)
  const T* y;         // [N][H]
  const T* c;         // [N][H]    LSTM
  const T* gates;     // [N][G·H]  GRU, LSTM
  const T* hidden_n;  // [N][H]    GRU
  const T* h0;        // [B][H]
  const T* c0;        // [B][H]    LSTM
  const T* dy;        // [N][H], or null
  T* dgates;          // [N][G·H]  gradient of x
  T* dhidden_n;       // [N][H]    GRU: gradient of W_hn h + b_hn
  T* dh;              // [B][H]    in: gradient of the last state; out: of h0
  T* dc;              // [B][H]    LSTM: the same for c
  const T* h_reset;   // [B][H]    with resets: what they set, and where its gradient is added
  const T* c_reset;
  T* dh_reset;
  T* dc_reset;
};

template <class T>
struct Linear {
  int64_t rows, in, out;
  int threads;
  const T* x;     // [rows][in]
  const T* w;     // packed by pack_linear or pack_transposed
  bool narrow;    // w went through narrow_linear (float32)
  const T* bias;  // [out], or null
  T* y;           // [rows][out]
};

// out[m][k] = Σ_n a[n][m] b[n][k], over N rows.
template <class T>
struct Outer {
  int64_t rows, left, right;
  int threads;
  const T* a;  // [rows][stride], of which the first `left` columns count
  int64_t stride;
  const T* b;            // [..][right]
  const int64_t* order;  // [rows]  which row of b stands beside row n of a, or ~i: row i of b0; null: row n
  const T* b0;           // [..][right]
  T* out;                // [left][right]
  T* sums;               // [left]  Σ_n a[n][m], or null
};

struct Program;  // program.h
template <class T>
struct ProgramCall;

// One CPU level's kernels. Packed weights belong to the level that packed them.
template <class T>
struct Kernels {
  size_t (*forward_size)(Cell, int64_t hidden);  // in T, for pack_forward
  void (*pack_forward)(Cell, int64_t hidden, const T* w_hh, T* packed, int threads);
  void (*forward)(Cell, const Forward<T>&);
  void (*narrow_forward)(Cell, int64_t hidden, const float* packed, float* narrow);    // to bfloat16: half the size,
  void (*narrow_linear)(int64_t in, int64_t out, const float* packed, float* narrow);  // rounded up to an even depth
  size_t (*backward_size)(Cell, int64_t hidden);
  void (*pack_backward)(Cell, int64_t hidden, const T* w_hh, T* packed, int threads);
  void (*backward)(Cell, const Backward<T>&);
  size_t (*linear_size)(int64_t in, int64_t out);
  void (*pack_linear)(int64_t in, int64_t out, const T* w, T* packed, int threads);      // w [out][in]
  void (*pack_transposed)(int64_t in, int64_t out, const T* w, T* packed, int threads);  // w [in][out]
  void (*linear)(const Linear<T>&);
  void (*matrix_vector)(int64_t out, int64_t in, const T* w, const T* x, const T* bias, T* y);  // w [out][in], unpacked
  void (*outer)(const Outer<T>&);
  void (*run_program)(const Program&, const ProgramCall<T>&);
};

constexpr int64_t kChunkFloats = 1 << 20;  // of projected input held at once: small enough for a last-level cache

struct Level {
  const char* name;
  bool (*supported)();
  Kernels<float> f32;
  Kernels<double> f64;
};

// dispatch.cpp
const Level* const* levels(int* count);  // that were built and run on this CPU, best last
const Level& level();                    // the one in use
bool use_level(const char* name);

template <class T>
const Kernels<T>& kernels();
template <>
inline const Kernels<float>& kernels<float>() {
  return level().f32;
}
template <>
inline const Kernels<double>& kernels<double>() {
  return level().f64;
}

}  // namespace elman
