// Vectors of W numbers by compiler vector extensions: one source for every CPU level.
// Compiled once per level; the build defines the level's name, vector bytes and number of registers.
#pragma once

#include <cstdint>
#include <cstring>

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
