// The cells' equations on vectors of hidden units, forward and backward, in PyTorch's gate order.
// `a` holds the gates' pre-activations. Nothing here knows about time, rows or memory.
#pragma once

#include "kernels.h"
#include "math.h"

namespace elman::ELMAN_LEVEL {

// h' = f(a).  Elman (1990), with f = tanh, relu or sigmoid.
template <Cell C>
struct Rnn {
  template <class V>
  static ELMAN_INLINE V activate(V a) {
    if constexpr (C == Cell::rnn_tanh) return tanh(a);
    if constexpr (C == Cell::rnn_sigmoid) return sigmoid(a);
    return a < V{} ? V{} : a;
  }

  template <class V>
  static ELMAN_INLINE V backward(V dh, V h) {
    if constexpr (C == Cell::rnn_tanh) return dh * (1 - h * h);
    if constexpr (C == Cell::rnn_sigmoid) return dh * h * (1 - h);
    return h <= V{} ? V{} : dh;
  }
};

// Cho et al. (2014), with the reset gate applied after the product.
//   r = σ(a_r)   z = σ(a_z)   n = tanh(x_n + r q),  q = W_hn h + b_hn   h' = (1 - z) n + z h
struct Gru {
  template <class V>
  static ELMAN_INLINE V forward(V a[3], V q, V h) {
    const V r = a[0] = sigmoid(a[0]);
    const V z = a[1] = sigmoid(a[1]);
    const V n = a[2] = tanh(a[2] + r * q);
    return n + z * (h - n);
  }

  // a holds r, z, n and becomes their pre-activations' gradients; q becomes its own; returns dh's direct path to h.
  template <class V>
  static ELMAN_INLINE V backward(V dh, V a[3], V& q, V h) {
    const V r = a[0], z = a[1], n = a[2];
    const V dn = dh * (1 - z) * (1 - n * n);
    a[0] = dn * q * r * (1 - r);
    a[1] = dh * (h - n) * z * (1 - z);
    a[2] = dn;
    q = dn * r;
    return dh * z;
  }
};

// Hochreiter and Schmidhuber (1997), forget gate of Gers et al. (2000).
//   i = σ(a_i)   f = σ(a_f)   g = tanh(a_g)   o = σ(a_o)   c' = f c + i g   h' = o tanh(c')
struct Lstm {
  template <class V>
  static ELMAN_INLINE V forward(V a[4], V& c) {
    const V i = a[0] = sigmoid(a[0]);
    const V f = a[1] = sigmoid(a[1]);
    const V g = a[2] = tanh(a[2]);
    const V o = a[3] = sigmoid(a[3]);
    c = f * c + i * g;
    return o * tanh(c);
  }

  // a holds i, f, g, o and becomes their pre-activations' gradients; returns the gradient of the earlier cell state.
  template <class V>
  static ELMAN_INLINE V backward(V dh, V dc, V a[4], V c, V c_before) {
    const V i = a[0], f = a[1], g = a[2], o = a[3];
    const V t = tanh(c);
    dc = dc + dh * o * (1 - t * t);
    a[0] = dc * g * i * (1 - i);
    a[1] = dc * c_before * f * (1 - f);
    a[2] = dc * i * (1 - g * g);
    a[3] = dh * t * o * (1 - o);
    return dc * f;
  }
};

}  // namespace elman::ELMAN_LEVEL
