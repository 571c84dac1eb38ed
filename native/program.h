// A cell that is not built in: its step as a list of operations on vectors of hidden units, with products between them.
//
// A program runs over the rows of a step in segments. Before every segment but the first may stand a product of an
// array's rows by packed weights; the segment's instructions then run over tiles of rows × units that stay in an L1
// cache. Forward and backward are two programs of this one form: backward visits the steps the other way round.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace elman {

// d = op(a, b, c). derivatives take a gradient a and a function's value b.
// clang-format off
#define ELMAN_OPERATIONS(X)                                                                                        \
  X(copy) X(neg) X(tanh) X(sigmoid) X(exp) X(expm1) X(log) X(log1p) X(sqrt) X(abs) X(sign) X(relu) X(sin) X(cos)   \
  X(erf) X(mean) X(add) X(sub) X(mul) X(div) X(max) X(min) X(less) X(dtanh) X(dsigmoid) X(where) X(fma)
// clang-format on

enum class Op : int {
#define ELMAN_OPERATION(name) name,
  ELMAN_OPERATIONS(ELMAN_OPERATION)
#undef ELMAN_OPERATION
};

// How the rows of an array are found: N rows of the data; B sequences; one row for all; the rows of this range alone;
// the state before the step, whose array holds it for the N rows and whose initial value stands apart.
enum class Span : int { now, sequence, all, local, before };

struct ArraySpec {
  Span span;
  int64_t columns;  // a row has columns·H numbers
  int state;        // Span::before: which state, in the order of ProgramCall::initial
};

constexpr int kRegister = -1, kConstant = -2;

struct Operand {
  int array;   // index of an ArraySpec, or one of the above
  int column;  // in units of H; the register's or constant's number
};

struct Instruction {
  Op op;
  Operand d, a, b, c;
};

struct Segment {
  int left;     // the array whose rows × weights come first, or -1: no product
  int weights;  // index into ProgramCall::weights
  int out;      // the array that receives the product
  int count;
  const Instruction* instructions;
};

constexpr int kMostArrays = 32;

// Plain memory: a container's code would be shared between CPU levels at link time.
struct Program {
  int arrays, constants, segments, registers, states;
  bool whole_rows;  // an instruction is a mean over all units
  const ArraySpec* array;
  const double* constant;
  const Segment* segment;
};

template <class T>
struct ProgramCall {
  Shape shape;
  bool backward;
  T* const* arrays;         // one an ArraySpec; null where rows are local. Span::before: [N][H], the new states
  const T* const* initial;  // one a state: [B][H], or with resets [2B][H]: B rows more, what resets set
  T* const* gradients;  // one a state, backward with resets: [2B][H], carried gradients, then those of what they set
  const T* const* weights;  // packed for `linear`
  const T* const* bias;     // one a weight, or null
};

}  // namespace elman
