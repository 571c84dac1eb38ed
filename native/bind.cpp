// The only file that knows Python: check arrays, release the GIL, call.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "compiled.h"
#include "kernels.h"
#include "layer.h"
#include "network.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace elman {
namespace {

using Pointer = uintptr_t;  // 0: absent

const char* const kCellNames[kCells] = {"rnn_tanh", "rnn_relu", "rnn_sigmoid", "gru", "lstm"};

Cell cell_named(const std::string& name) {
  for (int i = 0; i < kCells; ++i)
    if (name == kCellNames[i]) return Cell(i);
  throw std::invalid_argument("unknown cell '" + name + "'");
}

template <class T>
T* at(Pointer p) {
  return reinterpret_cast<T*>(p);
}

template <class T>
void forward(Cell cell, const Shape& shape, int64_t input_size, const std::array<Pointer, 15>& p) {
  const Input<T> input{input_size,        at<const T>(p[0]),       at<const T>(p[1]),
                       at<const T>(p[2]), at<const int64_t>(p[3]), at<const T>(p[4]),
                       at<const T>(p[5])};
  Forward<T> f{};
  f.shape = shape;
  f.product = at<const T>(p[7]);
  f.b_hn = at<const T>(p[8]);
  f.h0 = at<const T>(p[9]);
  f.c0 = at<const T>(p[10]);
  f.y = at<T>(p[11]);
  f.c = at<T>(p[12]);
  f.gates = at<T>(p[13]);
  f.hidden_n = at<T>(p[14]);
  if (shape.resets) {
    f.h_reset = f.h0 + shape.batch * shape.hidden;
    f.c_reset = f.c0 ? f.c0 + shape.batch * shape.hidden : nullptr;
  }
  forward_layer(cell, input, at<const T>(p[6]), f);
}

template <class T>
void backward(Cell cell, const Shape& shape, int64_t input_size, const std::array<Pointer, 17>& p) {
  Backward<T> b{};
  b.shape = shape;
  b.y = at<const T>(p[1]);
  b.c = at<const T>(p[2]);
  b.gates = at<const T>(p[3]);
  b.hidden_n = at<const T>(p[4]);
  b.h0 = at<const T>(p[5]);
  b.c0 = at<const T>(p[6]);
  b.dy = at<const T>(p[7]);
  b.dgates = at<T>(p[8]);
  b.dhidden_n = at<T>(p[9]);
  b.dh = at<T>(p[10]);
  b.dc = at<T>(p[11]);
  if (shape.resets) {
    const int64_t size = shape.batch * shape.hidden;
    b.h_reset = b.h0 + size;
    b.dh_reset = b.dh + size;
    b.c_reset = b.c0 ? b.c0 + size : nullptr;
    b.dc_reset = b.dc ? b.dc + size : nullptr;
  }
  backward_layer(cell, at<const T>(p[0]), b);
  weight_gradients(cell, b, {input_size, at<const T>(p[12]), at<T>(p[13]), at<T>(p[14]), at<T>(p[15]), at<T>(p[16])});
}

Shape shape_of(int64_t steps, int64_t batch, int64_t hidden, const std::vector<int64_t>& sizes, bool reverse,
               int threads, Pointer resets) {
  return {steps, batch, hidden, sizes.empty() ? nullptr : sizes.data(), reverse, threads, at<const uint8_t>(resets)};
}

// Weight gradients of a product whose left factor is b, or the states before each step: b and, behind it, b0.
template <class T>
void outer_product(const Shape& shape, bool before, int64_t left, Pointer a, Pointer b, Pointer b0, Pointer out,
                   Pointer sums) {
  const std::vector<int64_t> order = rows_before(shape);
  kernels<T>().outer({int64_t(order.size()), left, shape.hidden, shape.threads, at<const T>(a), left, at<const T>(b),
                      before ? order.data() : nullptr, at<const T>(b0), at<T>(out), at<T>(sums)});
}

using ArrayTuple = std::tuple<int, int64_t, int>;
using InstructionTuple = std::array<int, 9>;  // operation; array and column of d, a, b, c
using SegmentTuple = std::tuple<int, int, int, std::vector<InstructionTuple>>;

void build_program(CompiledProgram* self, const std::vector<ArrayTuple>& arrays, const std::vector<double>& constants,
                   const std::vector<SegmentTuple>& segments, int registers, int states) {
  std::vector<ArraySpec> array_specs;
  for (const auto& [span, columns, state] : arrays) array_specs.push_back({Span(span), columns, state});
  std::vector<SegmentSpec> specs;
  for (const auto& [left, weights, out, instructions] : segments) {
    specs.push_back({left, weights, out, {}});
    for (const InstructionTuple& i : instructions)
      specs.back().instructions.push_back({Op(i[0]), {i[1], i[2]}, {i[3], i[4]}, {i[5], i[6]}, {i[7], i[8]}});
  }
  new (self) CompiledProgram(std::move(array_specs), constants, std::move(specs), registers, states);
}

// Each pointer's array is as the program says; program_ops.py checks them.
template <class T>
void run_program(const CompiledProgram& program, const Shape& shape, bool backward, const std::vector<Pointer>& arrays,
                 const std::vector<Pointer>& initial, const std::vector<Pointer>& gradients,
                 const std::vector<Pointer>& weights, const std::vector<Pointer>& bias) {
  // A pointer has an integer's size and is read as one.
  const auto pointers = [](const std::vector<Pointer>& p) { return reinterpret_cast<T* const*>(p.data()); };
  program.run(ProgramCall<T>{shape, backward, pointers(arrays), pointers(initial), pointers(gradients),
                             pointers(weights), pointers(bias)});
}

std::vector<std::string> operation_names() {
  return {
#define ELMAN_NAME(name) #name,
      ELMAN_OPERATIONS(ELMAN_NAME)
#undef ELMAN_NAME
  };
}

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Tokens = nb::ndarray<const int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using State = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Rng = nb::ndarray<uint64_t, nb::shape<4>, nb::c_contig, nb::device::cpu>;
using Inputs = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Input = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using LayerArrays = std::tuple<Floats, Floats, nb::object, nb::object>;
using Array = nb::ndarray<nb::numpy, float>;

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

const float* optional_bias(const nb::object& array, int64_t size) {
  if (array.is_none()) return nullptr;
  const auto floats = nb::cast<Floats>(array);
  require(int64_t(floats.size()) == size, "a layer's bias must have G·H numbers");
  return floats.data();
}

template <class T>
auto owned(T* data, std::initializer_list<size_t> shape) {
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::ndarray<nb::numpy, T>(data, shape, owner);
}

// The layers' weights, of which the first has `in` inputs.
std::vector<LayerWeights> layer_weights(Cell cell, int64_t in, int64_t H, const std::vector<LayerArrays>& arrays) {
  require(!arrays.empty(), "there must be a layer");
  const int64_t GH = gates_of(cell) * H;
  std::vector<LayerWeights> layers;
  for (const auto& [w_ih, w_hh, b_ih, b_hh] : arrays) {
    require(int64_t(w_ih.size()) == GH * in && int64_t(w_hh.size()) == GH * H, "a layer's weights have the wrong size");
    layers.push_back({in, w_ih.data(), w_hh.data(), optional_bias(b_ih, GH), optional_bias(b_hh, GH)});
    in = H;
  }
  return layers;
}

void build_network(Network* self, const std::string& name, const Floats& embedding,
                   const std::vector<LayerArrays>& arrays, const Floats& head_weight, const Floats& head_bias) {
  const Cell cell = cell_named(name);
  require(embedding.ndim() == 2 && head_weight.ndim() == 2, "embedding and head_weight must be matrices");
  const int64_t V = embedding.shape(0), E = embedding.shape(1), H = head_weight.shape(1);
  require(int64_t(head_weight.shape(0)) == V && int64_t(head_bias.size()) == V, "the head must have a row per symbol");
  new (self)
      Network(cell, V, E, H, embedding.data(), layer_weights(cell, E, H, arrays), head_weight.data(), head_bias.data());
}

void build_stack(Stack* self, const std::string& name, const std::vector<LayerArrays>& arrays, bool narrow) {
  const Cell cell = cell_named(name);
  require(!arrays.empty(), "there must be a layer");
  const auto &w_ih = std::get<0>(arrays[0]), &w_hh = std::get<1>(arrays[0]);
  require(w_ih.ndim() == 2 && w_hh.ndim() == 2, "weights must be matrices");
  const int64_t H = w_hh.shape(1);
  new (self) Stack(cell, H, layer_weights(cell, w_ih.shape(1), H, arrays), narrow);
}

template <class Model>
void check_state(const Model& model, int64_t rows, const State& state) {
  require(int64_t(state.shape(0)) == rows && int64_t(state.shape(1)) == model.state_size(),
          "state must be (B, state_size), with B = 1 for a single stream");
}

Array feed_stack(const Stack& stack, const Inputs& x, const State& state, int threads) {
  const size_t T = x.shape(0), B = x.shape(1), H = stack.hidden_size();
  require(int64_t(x.shape(2)) == stack.input_size(), "x must be (T, B, input_size)");
  check_state(stack, B, state);
  auto y = owned(new float[T * B * H], {T, B, H});
  nb::gil_scoped_release release;
  if (T * B > 0) stack.feed(T, B, x.data(), state.data(), y.data(), threads);
  return y;
}

Array step_stack(const Stack& stack, const Input& x, const State& state) {
  const size_t H = stack.hidden_size();
  require(int64_t(x.shape(0)) == stack.input_size(), "x must be (input_size,)");
  check_state(stack, 1, state);
  auto y = owned(new float[H], {H});
  stack.feed(1, 1, x.data(), state.data(), y.data(), 1);
  return y;
}

void check_tokens(const Network& net, const Tokens& tokens, const State& state) {
  check_state(net, tokens.shape(0), state);
  const int64_t* t = tokens.data();
  for (size_t i = 0; i < tokens.size(); ++i)
    require(t[i] >= 0 && t[i] < net.symbols(), "a token lies outside the vocabulary");
}

Sampling sampling(double temperature, int64_t top_k, double top_p) {
  require(temperature >= 0, "temperature must not be negative");
  return {temperature, top_k, top_p};
}

Array feed(const Network& net, const Tokens& tokens, const State& state, int threads) {
  check_tokens(net, tokens, state);
  const size_t B = tokens.shape(0), T = tokens.shape(1), V = net.symbols();
  auto out = owned(new float[B * T * V], {B, T, V});
  nb::gil_scoped_release release;
  if (B * T > 0) net.feed(B, T, tokens.data(), state.data(), out.data(), threads);
  return out;
}

Array score(const Network& net, const Tokens& tokens, const State& state, int threads) {
  check_tokens(net, tokens, state);
  require(tokens.shape(1) > 0, "score needs at least one token a stream");
  const size_t B = tokens.shape(0), T = tokens.shape(1) - 1;
  auto out = owned(new float[B * T], {B, T});
  nb::gil_scoped_release release;
  if (B * T > 0) net.score(B, T, tokens.data(), state.data(), out.data(), threads);
  return out;
}

Array step(const Network& net, int64_t token, const State& state) {
  require(token >= 0 && token < net.symbols(), "a token lies outside the vocabulary");
  check_state(net, 1, state);
  const size_t V = net.symbols();
  auto out = owned(new float[V], {V});
  net.feed(1, 1, &token, state.data(), out.data(), 1);
  return out;
}

int64_t sample_one(const Network&, const nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>& logits,
                   double temperature, int64_t top_k, double top_p, const Rng& rng) {
  require(logits.size() > 0, "logits are empty");
  std::vector<float> weight;
  std::vector<int32_t> order;
  return sample(logits.size(), logits.data(), sampling(temperature, top_k, top_p), rng.data(), weight, order);
}

auto generate(const Network& net, int64_t token, int64_t count, const State& state, double temperature, int64_t top_k,
              double top_p, const Rng& rng) {
  require(token >= 0 && token < net.symbols(), "a token lies outside the vocabulary");
  check_state(net, 1, state);
  require(count >= 0, "count must not be negative");
  const Sampling how = sampling(temperature, top_k, top_p);
  auto out = owned(new int64_t[count], {size_t(count)});
  nb::gil_scoped_release release;
  net.generate(token, count, state.data(), how, rng.data(), out.data());
  return out;
}

std::vector<std::string> level_names() {
  int count;
  const Level* const* all = levels(&count);
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.push_back(all[i]->name);
  return names;
}

}  // namespace
}  // namespace elman

NB_MODULE(_native, m) {
  using namespace elman;
  nb::set_leak_warnings(false);  // programs are cached until the end
  m.def("cpu_level", [] { return level().name; }, "The CPU level whose kernels are in use.");
  m.def("cpu_levels", &level_names, "The CPU levels that this machine can run.");
  m.def(
      "use_cpu_level",
      [](const std::string& name) { require(use_level(name.c_str()), "no such CPU level was built or runs here"); },
      "level"_a, "Use one of cpu_levels() from now on. Networks built before keep theirs.");

  // Pointers are to C-contiguous arrays of the shapes in kernels.h; ops.py checks them. 0 means absent.
  m.def("forward",
        [](int cell, bool f64, int64_t steps, int64_t batch, int64_t hidden, const std::vector<int64_t>& sizes,
           bool reverse, int threads, Pointer resets, int64_t input_size, Pointer x, Pointer w_ih, Pointer bias,
           Pointer tokens, Pointer table, Pointer projected, Pointer w_hh, Pointer product, Pointer b_hn, Pointer h0,
           Pointer c0, Pointer y, Pointer c, Pointer gates, Pointer hidden_n) {
          nb::gil_scoped_release release;
          const Shape shape = shape_of(steps, batch, hidden, sizes, reverse, threads, resets);
          const std::array<Pointer, 15> p{x,    w_ih, bias, tokens, table, projected, w_hh,    product,
                                          b_hn, h0,   c0,   y,      c,     gates,     hidden_n};
          f64 ? forward<double>(Cell(cell), shape, input_size, p) : forward<float>(Cell(cell), shape, input_size, p);
        });
  m.def("backward",
        [](int cell, bool f64, int64_t steps, int64_t batch, int64_t hidden, const std::vector<int64_t>& sizes,
           bool reverse, int threads, Pointer resets, int64_t input_size, Pointer w_hh, Pointer y, Pointer c,
           Pointer gates, Pointer hidden_n, Pointer h0, Pointer c0, Pointer dy, Pointer dgates, Pointer dhidden_n,
           Pointer dh, Pointer dc, Pointer x, Pointer dw_ih, Pointer dbias, Pointer dw_hh, Pointer db_hn) {
          nb::gil_scoped_release release;
          const Shape shape = shape_of(steps, batch, hidden, sizes, reverse, threads, resets);
          const std::array<Pointer, 17> p{w_hh,      y,  c,  gates, hidden_n, h0,    c0,    dy,   dgates,
                                          dhidden_n, dh, dc, x,     dw_ih,    dbias, dw_hh, db_hn};
          f64 ? backward<double>(Cell(cell), shape, input_size, p) : backward<float>(Cell(cell), shape, input_size, p);
        });

  m.def("one_step", [](int cell, bool f64, int64_t batch, int64_t input_size, int64_t hidden, int threads, Pointer x,
                       Pointer w_ih, Pointer b_ih, Pointer w_hh, Pointer b_hh, Pointer h0, Pointer h, Pointer c) {
    nb::gil_scoped_release release;
    const auto run = [&]<class T>() {
      one_step<T>(Cell(cell), {batch, input_size, hidden, threads, at<const T>(x), at<const T>(w_ih), at<const T>(b_ih),
                               at<const T>(w_hh), at<const T>(b_hh), at<const T>(h0), at<T>(h), at<T>(c)});
    };
    f64 ? run.operator()<double>() : run.operator()<float>();
  });
  m.def("add_rows", [](bool f64, int64_t rows, int64_t columns, int threads, Pointer index, Pointer from, Pointer to) {
    nb::gil_scoped_release release;
    f64 ? add_rows(rows, columns, threads, at<const int64_t>(index), at<const double>(from), at<double>(to))
        : add_rows(rows, columns, threads, at<const int64_t>(index), at<const float>(from), at<float>(to));
  });
  m.def("attend", [](int64_t steps, int64_t batch, int64_t hidden, const std::vector<int64_t>& sizes, Pointer scores,
                     Pointer y, Pointer out) {
    nb::gil_scoped_release release;
    attend(shape_of(steps, batch, hidden, sizes, false, 1, 0), at<const float>(scores), at<const float>(y),
           at<float>(out));
  });
  m.def("linear", [](bool f64, int64_t rows, int64_t in, int64_t out, bool transposed, int threads, Pointer x,
                     Pointer w, Pointer bias, Pointer y) {
    nb::gil_scoped_release release;
    f64 ? linear(rows, in, out, transposed, threads, at<const double>(x), at<const double>(w), at<const double>(bias),
                 at<double>(y))
        : linear(rows, in, out, transposed, threads, at<const float>(x), at<const float>(w), at<const float>(bias),
                 at<float>(y));
  });

  m.def("outer", [](bool f64, int64_t steps, int64_t batch, int64_t hidden, const std::vector<int64_t>& sizes,
                    bool reverse, int threads, Pointer resets, bool before, int64_t left, Pointer a, Pointer b,
                    Pointer b0, Pointer out, Pointer sums) {
    nb::gil_scoped_release release;
    const Shape shape = shape_of(steps, batch, hidden, sizes, reverse, threads, resets);
    f64 ? outer_product<double>(shape, before, left, a, b, b0, out, sums)
        : outer_product<float>(shape, before, left, a, b, b0, out, sums);
  });
  m.def("operations", &operation_names, "What a program's instructions may be, in the order of their numbers.");
  nb::class_<CompiledProgram>(m, "Program")
      .def("__init__", &build_program, "arrays"_a, "constants"_a, "segments"_a, "registers"_a, "states"_a)
      .def("run", [](const CompiledProgram& program, bool f64, bool backward, int64_t steps, int64_t batch,
                     int64_t hidden, const std::vector<int64_t>& sizes, bool reverse, int threads, Pointer resets,
                     const std::vector<Pointer>& arrays, const std::vector<Pointer>& initial,
                     const std::vector<Pointer>& gradients, const std::vector<Pointer>& weights,
                     const std::vector<Pointer>& bias) {
        nb::gil_scoped_release release;
        const Shape shape = shape_of(steps, batch, hidden, sizes, reverse, threads, resets);
        f64 ? run_program<double>(program, shape, backward, arrays, initial, gradients, weights, bias)
            : run_program<float>(program, shape, backward, arrays, initial, gradients, weights, bias);
      });

  nb::class_<Stack>(m, "Stack")
      .def("__init__", &build_stack, "cell"_a, "layers"_a, "narrow"_a = false)
      .def_prop_ro("state_size", &Stack::state_size)
      .def_prop_ro("input_size", &Stack::input_size)
      .def_prop_ro("hidden_size", &Stack::hidden_size)
      .def("feed", &feed_stack, "x"_a, "state"_a.noconvert(), "threads"_a = 1)
      .def("step", &step_stack, "x"_a, "state"_a.noconvert());
  nb::class_<Network>(m, "Network")
      .def("__init__", &build_network, "cell"_a, "embedding"_a, "layers"_a, "head_weight"_a, "head_bias"_a)
      .def_prop_ro("state_size", &Network::state_size)
      .def_prop_ro("symbols", &Network::symbols)
      .def("feed", &feed, "tokens"_a, "state"_a.noconvert(), "threads"_a = 1)
      .def("score", &score, "tokens"_a, "state"_a.noconvert(), "threads"_a = 1)
      .def("step", &step, "token"_a, "state"_a.noconvert())
      .def("sample", &sample_one, "logits"_a, "temperature"_a, "top_k"_a, "top_p"_a, "rng"_a.noconvert())
      .def("generate", &generate, "token"_a, "count"_a, "state"_a.noconvert(), "temperature"_a, "top_k"_a, "top_p"_a,
           "rng"_a.noconvert());
}
