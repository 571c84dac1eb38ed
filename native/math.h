// tanh and sigmoid of a vector. float: a rational function; double: the C library, lane by lane.
#pragma once

#include <cmath>

#include "simd.h"

namespace elman::ELMAN_LEVEL {

// x P(x²) / Q(x²), a minimax fit on |x| ≤ 7.9 found by iteratively reweighted least squares; beyond, tanh is 1 to
// within 2.8e-7. Relative error in float32 at most 4e-7. A NaN passes both comparisons unchanged.
ELMAN_INLINE Vec<float> tanh(Vec<float> x) {
  const Vec<float> limit = splat(7.9f);
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
  const Vec<float> u = x * x;
  Vec<float> p = u * 1.54274708563662e-08f + 2.2022937628207728e-05f;
  p = p * u + 0.0035789753310382366f;
  p = p * u + 0.13450607657432556f;
  p = p * u + 1.0f;
  Vec<float> q = u * 8.598591989539273e-07f + 0.0003423621819820255f;
  q = q * u + 0.02619217522442341f;
  q = q * u + 0.4678393602371216f;
  q = q * u + 1.0f;
  return x * p / q;
}

ELMAN_INLINE Vec<float> sigmoid(Vec<float> x) { return tanh(x * 0.5f) * 0.5f + 0.5f; }

ELMAN_INLINE Vec<double> tanh(Vec<double> x) {
  for (int i = 0; i < Simd<double>::W; ++i) x[i] = std::tanh(x[i]);
  return x;
}

ELMAN_INLINE Vec<double> sigmoid(Vec<double> x) {
  for (int i = 0; i < Simd<double>::W; ++i) x[i] = 1.0 / (1.0 + std::exp(-x[i]));
  return x;
}

}  // namespace elman::ELMAN_LEVEL
