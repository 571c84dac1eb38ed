#include "compiled.h"

#include <algorithm>
#include <stdexcept>

#include "scratch.h"

namespace elman {

CompiledProgram::CompiledProgram(std::vector<ArraySpec> arrays, std::vector<double> constants,
                                 std::vector<SegmentSpec> segments, int registers, int states)
    : arrays_(std::move(arrays)), constants_(std::move(constants)), specs_(std::move(segments)) {
  const int count = int(arrays_.size());
  if (count > kMostArrays) throw std::invalid_argument("a program may have 32 arrays at most");
  bool whole_rows = false;
  program_ = {count,      int(constants_.size()), int(specs_.size()), registers, states,
              whole_rows, arrays_.data(),         constants_.data(),  nullptr};
  for (const ArraySpec& a : arrays_)
    if (a.columns < 1 || (a.span == Span::before && (a.state < 0 || a.state >= states)))
      throw std::invalid_argument("an array has no columns or is of no state");
  for (const SegmentSpec& s : specs_) {
    if (s.left >= count ||
        (s.left >= 0 && (s.out < 0 || s.out >= count || s.weights < 0 || s.weights >= int(specs_.size()))))
      throw std::invalid_argument("a product has no array or no weights");
    for (const Instruction& i : s.instructions) {
      if (i.op < Op::copy || i.op > Op::fma) throw std::invalid_argument("an instruction is unknown");
      check(i.d, true);
      for (const Operand* o : {&i.a, &i.b, &i.c}) check(*o, false);
      whole_rows = whole_rows || i.op == Op::mean;
    }
    segments_.push_back({s.left, s.weights, s.out, int(s.instructions.size()), s.instructions.data()});
  }
  program_.whole_rows = whole_rows;
  program_.segment = segments_.data();
}

void CompiledProgram::check(const Operand& o, bool written) const {
  const bool valid = o.array == kRegister ? o.column < program_.registers
                     : o.array == kConstant
                         ? !written && o.column < program_.constants
                         : o.array >= 0 && o.array < program_.arrays && o.column < arrays_[o.array].columns;
  if (!valid || o.column < 0) throw std::invalid_argument("an operand is not there");
  if (written && o.array >= 0 && (arrays_[o.array].span == Span::before || arrays_[o.array].span == Span::all))
    throw std::invalid_argument("a program may not write there");
}

template <class T>
void CompiledProgram::run(ProgramCall<T> call) const {
  static thread_local std::vector<Scratch<T>> memory;
  const Kernels<T>& k = kernels<T>();
  const int64_t H = call.shape.hidden;
  std::vector<const T*> packed(specs_.size());
  if (memory.size() < specs_.size()) memory.resize(specs_.size());
  for (const SegmentSpec& s : specs_) {
    if (s.left < 0) continue;
    const int64_t in = arrays_[s.left].columns * H, out = arrays_[s.out].columns * H;
    T* to = memory[s.weights].get(k.linear_size(in, out));
    (call.backward ? k.pack_transposed : k.pack_linear)(in, out, call.weights[s.weights], to, call.shape.threads);
    packed[s.weights] = to;
  }
  call.weights = packed.data();
  int64_t rows = 0;
  for (int64_t t = 0; t < call.shape.steps; ++t)
    rows += call.shape.batch_sizes ? call.shape.batch_sizes[t] : call.shape.batch;
  for (int i = 0; i < program_.arrays; ++i)
    if (arrays_[i].span == Span::now) expect_writes(call.arrays[i], rows * arrays_[i].columns * H);
  k.run_program(program_, call);
}

template void CompiledProgram::run(ProgramCall<float>) const;
template void CompiledProgram::run(ProgramCall<double>) const;

}  // namespace elman
