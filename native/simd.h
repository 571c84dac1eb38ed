// Vectors of W numbers by compiler vector extensions: one source for every CPU level.
// Compiled once per level; the build defines the level's name, vector bytes and number of registers.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#define ELMAN_INLINE inline __attribute__((always_inline))

namespace elman::ELMAN_LEVEL {

constexpr int kRegisters = ELMAN_REGISTERS;

template <class T>
struct Simd {
  static constexpr int W = ELMAN_VECTOR_BYTES / sizeof(T);
  typedef T V __attribute__((vector_size(ELMAN_VECTOR_BYTES)));
};

template <class T>
using Vec = typename Simd<T>::V;

template <class T>
ELMAN_INLINE Vec<T> splat(T x) {
  return x - Vec<T>{};  // x - 0 is x; 0 + x would be an addition, because of -0
}

template <class T>
ELMAN_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
ELMAN_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}

// A vector of 32-bit words. Two vectors of bfloat16 (the upper half of a float32) fit in one: the first in the lower
// halves.
typedef uint32_t Pair __attribute__((vector_size(ELMAN_VECTOR_BYTES)));

ELMAN_INLINE Pair load_pair(const float* p) {
  Pair pair;
  std::memcpy(&pair, p, sizeof pair);
  return pair;
}

ELMAN_INLINE Vec<float> first_of(Pair pair) { return (Vec<float>)(pair << 16); }
ELMAN_INLINE Vec<float> second_of(Pair pair) { return (Vec<float>)(pair & 0xffff0000u); }

// To the nearest, ties to even.
inline uint32_t to_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if (x != x) return bits >> 16 | 0x40;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// a and b are rows i and i + Step of a block: exchanges what lies off the diagonal of their Step × Step blocks.
template <int Step, class V, size_t... J>
ELMAN_INLINE void exchange(V& a, V& b, std::index_sequence<J...>) {
  constexpr int W = sizeof...(J);
  const V low = __builtin_shufflevector(a, b, ((J & Step) ? W + J - Step : J)...);
  b = __builtin_shufflevector(a, b, ((J & Step) ? W + J : J + Step)...);
  a = low;
}

// Of W rows of W, by Eklundh's method: blocks of 1, 2, 4, ... W/2 in turn.
template <class T, int Step = 1>
ELMAN_INLINE void transpose(Vec<T> (&rows)[Simd<T>::W]) {
  constexpr int W = Simd<T>::W;
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i)
    if (!(i & Step)) exchange<Step>(rows[i], rows[i + Step], std::make_index_sequence<W>{});
  if constexpr (2 * Step < W) transpose<T, 2 * Step>(rows);
}

// to[k][i] = from[i][k] for i, k < W.
template <class T>
ELMAN_INLINE void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  constexpr int W = Simd<T>::W;
  Vec<T> rows[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) rows[i] = load(from + i * from_stride);
  transpose<T>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) store(to + i * to_stride, rows[i]);
}

// The units of one vector: all W of them, or the first `count` where the hidden size ends.
template <class T, bool Full>
struct Lanes {
  int count;

  ELMAN_INLINE Vec<T> load(const T* p) const {
    if constexpr (Full) return ELMAN_LEVEL::load(p);
    Vec<T> v{};
    std::memcpy(&v, p, count * sizeof(T));
    return v;
  }

  ELMAN_INLINE void store(T* p, Vec<T> v) const {
    if constexpr (Full)
      ELMAN_LEVEL::store(p, v);
    else
      std::memcpy(p, &v, count * sizeof(T));
  }
};

}  // namespace elman::ELMAN_LEVEL
