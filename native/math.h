// tanh, sigmoid, exp and log of a vector. float: rational functions and polynomials of stated error; double: the C
// library, lane by lane.
#pragma once

#include <cmath>
#include <limits>

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

typedef int32_t Ints __attribute__((vector_size(ELMAN_VECTOR_BYTES)));

// 2^n for n from -126 to 127.
ELMAN_INLINE Vec<float> power_of_two(Ints n) { return (Vec<float>)((n + 127) << 23); }

// exp(x) = 2^n exp(r) with |r| ≤ ln 2 / 2 and exp(r) = 1 + r + r² q(r), a minimax fit as above. Relative error at most
// 2e-7. NaN stays NaN.
ELMAN_INLINE Vec<float> exp(Vec<float> x) {
  const Vec<float> most = splat(89.f), least = splat(-104.f);  // beyond: infinity and 0
  x = x > most ? most : x;
  x = x < least ? least : x;
  const Vec<float> scaled = x * 1.44269504088896341f;
  const Ints n = __builtin_convertvector(scaled + (scaled < Vec<float>{} ? splat(-0.5f) : splat(0.5f)), Ints);
  const Vec<float> k = __builtin_convertvector(n, Vec<float>);
  const Vec<float> r = (x - k * 0.693359375f) - k * -2.12194440054690583e-4f;  // ln 2 in two parts
  Vec<float> q = r * 0.0013814611212351797f + 0.008368710256573453f;
  q = q * r + 0.041668387421233896f;
  q = q * r + 0.16666520685740313f;
  q = q * r + 0.4999999345137282f;
  const Ints half = n >> 1;
  return ((q * r * r + r) + 1.0f) * power_of_two(half) * power_of_two(n - half);
}

// log(x) = e ln 2 + log(m) with √½ ≤ m < √2 and log(m) = 2s + s³ R(s²), s = (m - 1) / (m + 1), a minimax fit. Error at
// most 2e-7, relative where x is not near 1, else absolute.
ELMAN_INLINE Vec<float> log(Vec<float> x) {
  const Vec<float> given = x, zero{};
  const auto tiny = x < splat(std::numeric_limits<float>::min());
  x = tiny ? x * 8388608.0f : x;
  const Pair bits = (Pair)x - 0x3f3504f3u;  // of √½
  const Ints e = (Ints)bits >> 23;
  const Vec<float> m = (Vec<float>)((bits & 0x7fffffu) + 0x3f3504f3u);
  const Vec<float> s = (m - 1.0f) / (m + 1.0f), u = s * s;
  const Vec<float> k = __builtin_convertvector(e, Vec<float>) - (tiny ? splat(23.0f) : zero);
  const Vec<float> p = ((u * 0.2987078505548017f + 0.39977579559978116f) * u + 0.6666677604210114f) * u * s;
  Vec<float> y = k * 0.693359375f + (2.0f * s + (p + k * -2.12194440054690583e-4f));
  const Vec<float> infinity = splat(std::numeric_limits<float>::infinity());
  y = given == infinity ? infinity : y;
  y = given == zero ? -infinity : y;
  return given < zero || given != given ? splat(std::numeric_limits<float>::quiet_NaN()) : y;
}

// What rounding 1 + x loses is made up for by the last factor (Higham, "Accuracy and stability of numerical
// algorithms", 1.14.1); expm1 likewise.
ELMAN_INLINE Vec<float> log1p(Vec<float> x) {
  const Vec<float> one = splat(1.0f), u = x + one, d = u - one;
  const Vec<float> y = log(u) * (x / d);
  return d == Vec<float>{} ? x : u > splat(std::numeric_limits<float>::max()) ? u : y;
}

ELMAN_INLINE Vec<float> expm1(Vec<float> x) {
  const Vec<float> one = splat(1.0f), u = exp(x), d = u - one;
  const Vec<float> y = d * x / log(u);
  const Vec<float> far = x > splat(1.0f) || x < splat(-17.0f) ? d : y;
  return u == one ? x : far;
}

ELMAN_INLINE Vec<double> tanh(Vec<double> x) {
  for (int i = 0; i < Simd<double>::W; ++i) x[i] = std::tanh(x[i]);
  return x;
}

ELMAN_INLINE Vec<double> sigmoid(Vec<double> x) {
  for (int i = 0; i < Simd<double>::W; ++i) x[i] = 1.0 / (1.0 + std::exp(-x[i]));
  return x;
}

#define ELMAN_BY_LANE(name)                                           \
  ELMAN_INLINE Vec<double> name(Vec<double> x) {                      \
    for (int i = 0; i < Simd<double>::W; ++i) x[i] = std::name(x[i]); \
    return x;                                                         \
  }
ELMAN_BY_LANE(exp)
ELMAN_BY_LANE(log)
ELMAN_BY_LANE(log1p)
ELMAN_BY_LANE(expm1)
#undef ELMAN_BY_LANE

}  // namespace elman::ELMAN_LEVEL
