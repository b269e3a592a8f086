// Two dense layers with an activation between them and their gradient, against double loops.
#include <cmath>

#include "../operators.h"
#include "testing.h"

extern "C" XLA_FFI_Error* hpjax_perceptron(XLA_FFI_CallFrame*);
extern "C" XLA_FFI_Error* hpjax_perceptron_gradient(XLA_FFI_CallFrame*);

namespace hpjax::tests {
namespace {

// a [rows, depth] times b [depth, columns], either lying across where it says so; `size` is the norm of independent terms.
Doubles product(const Doubles& a, const Doubles& b, int64_t rows, int64_t depth, int64_t columns, bool across_a, bool across_b,
                double* size) {
  Doubles c(static_cast<size_t>(rows * columns));
  *size = 0;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t k = 0; k < depth; ++k) {
        const double term = a[static_cast<size_t>(across_a ? k * rows + i : i * depth + k)] *
                            b[static_cast<size_t>(across_b ? j * depth + k : k * columns + j)];
        c[static_cast<size_t>(i * columns + j)] += term, *size += term * term;
      }
  *size = std::sqrt(*size);
  return c;
}

struct Drawn {
  int64_t rows, inputs, hidden, outputs, activation;
  Array x, kernel, bias, out_kernel, out_bias;
  Doubles before, inside;
  double size;  // of what goes into the activation

  Sizes of_rows(int64_t columns) const { return {rows, columns}; }
};

Drawn draw(Random& random) {
  Drawn d{};
  const int64_t most = random.pick({4, 40, 150});
  d.rows = random.between(1, random.pick({4, 60})), d.inputs = random.between(1, most), d.hidden = random.between(1, most);
  d.outputs = random.between(1, most), d.activation = random.between(NONE, SILU);
  d.x = random.normals(d.of_rows(d.inputs)), d.bias = random.normals({d.hidden}), d.out_bias = random.normals({d.outputs});
  d.kernel = random.normals({d.inputs, d.hidden}, 1 / std::sqrt(d.inputs));
  d.out_kernel = random.normals({d.hidden, d.outputs}, 1 / std::sqrt(d.hidden));
  d.before = product(doubles(d.x), doubles(d.kernel), d.rows, d.inputs, d.hidden, false, false, &d.size);
  for (size_t i = 0; i < d.before.size(); ++i) d.before[i] += d.bias[static_cast<int64_t>(i) % d.hidden];
  d.size += std::sqrt(static_cast<double>(d.rows) * squared(doubles(d.bias)));
  for (double value : d.before) d.inside.push_back(activated(d.activation, value));
  return d;
}

void wrong_sizes(Case& made, const Drawn& d, size_t out_kernel) {
  for (size_t i = 0; i < made.call.operands.size(); ++i)
    made.wrong.push_back({"an operand of three dimensions", [=](Call& c) { c.operands[i] = floats({d.rows, d.hidden, 1}); }});
  made.wrong.push_back({"kernels that differ", [=](Call& c) { c.operands[out_kernel] = floats({d.hidden + 1, d.outputs}); }});
  for (int64_t activation : {int64_t{-1}, int64_t{5}, int64_t{1} << 32})
    made.wrong.push_back({"an unknown activation", [=](Call& c) { c.attributes["activation"] = number(activation); }});
  for (size_t i = 0; i < made.call.results.size(); ++i)
    made.wrong.push_back({"a larger result", [=](Call& c) { c.results[i] = floats({d.rows + 1, d.inputs + d.outputs, 2}); }});
}

Case forward(Random& random) {
  const Drawn d = draw(random);
  const bool kept = random.one_in(2);
  const Array y = floats(d.of_rows(d.outputs)), before = floats(kept ? d.of_rows(d.hidden) : Sizes{0});
  double size;
  Doubles values = product(d.inside, doubles(d.out_kernel), d.rows, d.hidden, d.outputs, false, false, &size);
  for (size_t i = 0; i < values.size(); ++i) values[i] += d.out_bias[static_cast<int64_t>(i) % d.outputs];
  size += std::sqrt(static_cast<double>(d.rows) * squared(doubles(d.out_bias)));
  // The first layer's error goes through kernels of norm about 1, but for chance.
  const double both = size + d.size * (1 + std::sqrt(squared(doubles(d.out_kernel))));
  Case made{{{d.x, d.kernel, d.bias, d.out_kernel, d.out_bias}, {y, before}, {{"activation", number(d.activation)}}}, {}, {}, {}};
  made.check = [=] {
    near("result", y, values, both, bound(d.inputs + d.hidden));
    if (kept) near("before", before, d.before, d.size, bound(d.inputs));
  };
  wrong_sizes(made, d, 3);
  return made;
}

Case backward(Random& random) {
  Drawn d = draw(random);
  const Array cotangent = random.normals(d.of_rows(d.outputs)), before = floats(d.of_rows(d.hidden));
  for (size_t i = 0; i < d.before.size(); ++i) {
    before.set(static_cast<int64_t>(i), d.before[i]);
    d.before[i] = before[static_cast<int64_t>(i)], d.inside[i] = activated(d.activation, d.before[i]);
  }
  const Doubles g = doubles(cotangent), x = doubles(d.x);
  double of_inner, of_x, of_kernel, of_out;
  Doubles inner = product(g, doubles(d.out_kernel), d.rows, d.outputs, d.hidden, false, true, &of_inner);
  for (size_t i = 0; i < inner.size(); ++i) inner[i] *= steepness(d.activation, d.before[i]);
  const Doubles to_x = product(inner, doubles(d.kernel), d.rows, d.hidden, d.inputs, false, true, &of_x);
  const Doubles to_kernel = product(x, inner, d.inputs, d.rows, d.hidden, true, false, &of_kernel);
  const Doubles to_out = product(d.inside, g, d.hidden, d.rows, d.outputs, true, false, &of_out);
  Doubles to_bias(static_cast<size_t>(d.hidden)), to_out_bias(static_cast<size_t>(d.outputs));
  for (size_t i = 0; i < inner.size(); ++i) to_bias[i % to_bias.size()] += inner[i];
  for (size_t i = 0; i < g.size(); ++i) to_out_bias[i % to_out_bias.size()] += g[i];
  const Array results[5] = {floats(d.x.sizes), floats(d.kernel.sizes), floats({d.hidden}), floats(d.out_kernel.sizes), floats({d.outputs})};
  Case made{{{d.x, d.kernel, d.out_kernel, before, cotangent}, {results, results + 5}, {{"activation", number(d.activation)}}}, {}, {}, {}};
  // As above: the error of what goes through the activation, times what it is multiplied by.
  const double kernel = 1 + std::sqrt(squared(doubles(d.kernel))), inputs = 1 + std::sqrt(squared(x)), size = std::sqrt(squared(g));
  const int64_t depth = d.rows + d.hidden + d.outputs;
  made.check = [=] {
    near("to x", results[0], to_x, of_x + of_inner * kernel, 2 * bound(depth));
    near("to kernel", results[1], to_kernel, of_kernel + of_inner * inputs, 2 * bound(depth));
    near("to bias", results[2], to_bias, 2 * of_inner * std::sqrt(d.rows), 2 * bound(depth));
    near("to the other kernel", results[3], to_out, of_out + size, 2 * bound(depth));
    near("to the other bias", results[4], to_out_bias, size, 2 * bound(depth));
  };
  wrong_sizes(made, d, 2);
  return made;
}

const Tested tested_forward("hpjax_perceptron", hpjax_perceptron, forward);
const Tested tested_backward("hpjax_perceptron_gradient", hpjax_perceptron_gradient, backward);

}  // namespace
}  // namespace hpjax::tests
