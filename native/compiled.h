// A program with the memory it needs, and the calls that run it over weights as PyTorch keeps them. Knows no Python.
#pragma once

#include <vector>

#include "program.h"

namespace elman {

struct SegmentSpec {
  int left, weights, out;
  std::vector<Instruction> instructions;
};

class CompiledProgram {
 public:
  // Throws std::invalid_argument where an operand, an array or a product is not there.
  CompiledProgram(std::vector<ArraySpec> arrays, std::vector<double> constants, std::vector<SegmentSpec> segments,
                  int registers, int states);
  CompiledProgram(const CompiledProgram&) = delete;

  const Program& program() const { return program_; }

  // call.weights: [out][left] of each product forward, [left][out] backward. They are packed here.
  template <class T>
  void run(ProgramCall<T> call) const;

 private:
  void check(const Operand& operand, bool written) const;

  std::vector<ArraySpec> arrays_;
  std::vector<double> constants_;
  std::vector<SegmentSpec> specs_;
  std::vector<Segment> segments_;
  Program program_;
};

}  // namespace elman
