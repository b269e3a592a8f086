// Products of matrices and the cotangents of what went into activations, against double loops.
#include <algorithm>
#include <cmath>

#include "../operators.h"
#include "testing.h"

extern "C" XLA_FFI_Error* hpjax_matmul(XLA_FFI_CallFrame*);
extern "C" XLA_FFI_Error* hpjax_pullback(XLA_FFI_CallFrame*);

namespace hpjax::tests {

static Case matmul(Random& random) {
  const int64_t rows = random.between(1, 40), columns = random.between(1, random.pick({3, 20, 70, 140}));
  const int64_t depth = random.one_in(12) ? 0 : random.pick({1, 2, 7, 31, 64, 255, 256, 257, 600});
  const bool across_a = random.one_in(2), across_b = random.one_in(2), biased = random.one_in(2);
  const bool before = !across_a && random.one_in(3);
  const bool narrow = random.one_in(2);
  const int64_t activation = random.between(NONE, SILU);
  const Array a = random.normals(across_a ? Sizes{depth, rows} : Sizes{rows, depth});
  const Array b = random.normals(across_b ? Sizes{columns, depth} : Sizes{depth, columns}, depth ? 1 / std::sqrt(depth) : 1);
  const Array bias = biased ? random.normals({columns}) : floats({0});
  const Array c = floats({rows, columns}), inside = floats(before ? Sizes{rows, columns} : Sizes{0});
  Case made{{{a, b, bias},
             {c, inside},
             {{"transpose_a", flag(across_a)},
              {"transpose_b", flag(across_b)},
              {"bf16", flag(narrow)},
              {"activation", number(activation)}}},
            {},
            {}};
  Doubles sums, values, left = doubles(a), right = doubles(b);
  for (double& value : left) value = narrow ? bf16(value) : value;
  for (double& value : right) value = narrow ? bf16(value) : value;
  double squares = 0;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      // A sum is rounded at every step, by the size of what it has come to there: that may be more than its terms' norm.
      double total = biased ? bias[j] : 0, terms = total * total, largest = terms;
      for (int64_t k = 0; k < depth; ++k) {
        const double term = left[static_cast<size_t>(across_a ? k * rows + i : i * depth + k)] *
                            right[static_cast<size_t>(across_b ? j * depth + k : k * columns + j)];
        total += term, terms += term * term, largest = std::max(largest, total * total);
      }
      squares += std::max(terms, largest);
      sums.push_back(total), values.push_back(activated(activation, total));
    }
  // No activation is steeper than 1.13.
  made.check = [=] {
    near("result", c, values, std::sqrt(squares), 1.13 * bound(depth));
    if (before) near("before", inside, sums, std::sqrt(squares), bound(depth));
  };
  made.wrong = {
      {"depths differ", [=](Call& x) { x.operands[1] = floats(across_b ? Sizes{columns, depth + 1} : Sizes{depth + 1, columns}); }},
      {"a of one dimension", [=](Call& x) { x.operands[0] = floats({rows * depth}); }},
      {"b of three dimensions", [=](Call& x) { x.operands[1] = floats({1, depth, columns}); }},
      {"a bias too long", [=](Call& x) { x.operands[2] = floats({columns + 1}); }},
      {"a result too high", [=](Call& x) { x.results[0] = floats({rows + 1, columns}); }},
      {"a result too narrow", [=](Call& x) { x.results[0] = floats({rows, columns - 1}); }},
      {"a result turned", [=](Call& x) { x.results[0] = floats({columns, rows + (rows == columns)}); }},
      {"before too small", [=](Call& x) { x.results[1] = floats({rows, columns + 1}); }},
      {"activation 5", [](Call& x) { x.attributes["activation"] = number(5); }},
      {"activation 2^32", [](Call& x) { x.attributes["activation"] = number(int64_t{1} << 32); }},
      {"activation -1", [](Call& x) { x.attributes["activation"] = number(-1); }},
  };
  if (across_a) made.wrong.push_back({"before of a that lies across", [=](Call& x) { x.results[1] = floats({rows, columns}); }});
  return made;
}

static Case pullback(Random& random) {
  const int64_t rows = random.between(random.one_in(12) ? 0 : 1, random.pick({3, 40}));
  const int64_t columns = random.between(1, random.pick({3, 20, 300}));
  const int64_t activation = random.between(NONE, SILU);
  const bool through = activation != NONE, summed = !through || random.one_in(2);
  const bool output = activation == RELU || activation == TANH;
  const Array went_in = random.normals({rows, columns}), cotangent = random.normals({rows, columns});
  const Array saved = floats(through ? Sizes{rows, columns} : Sizes{0});
  const Array result = floats(through ? Sizes{rows, columns} : Sizes{0}), sums = floats(summed ? Sizes{columns} : Sizes{0});
  Doubles expected, totals(static_cast<size_t>(columns));
  for (int64_t i = 0; i < rows * columns; ++i) {
    if (through) saved.floats()[i] = static_cast<float>(output ? activated(activation, went_in[i]) : went_in[i]);
    // What was saved of tanh is rounded: the derivative is that of the float32.
    const double slope = activation == TANH ? 1 - saved[i] * saved[i] : steepness(activation, went_in[i]);
    expected.push_back(slope * cotangent[i]);
    totals[static_cast<size_t>(i % columns)] += expected.back();
  }
  const double size = std::sqrt(squared(doubles(cotangent)));
  Case made{{{saved, cotangent}, {result, sums}, {{"activation", number(activation)}}}, {}, {}};
  made.check = [=] {
    if (through) near("result", result, expected, size, 2 * bound(1));
    if (summed) near("sums", sums, totals, size, 2 * bound(rows));
  };
  made.wrong = {
      {"a cotangent of one dimension", [=](Call& x) { x.operands[1] = floats({rows * columns}); }},
      {"what was saved is larger", [=](Call& x) { x.operands[0] = floats({rows + 1, columns + 1}), x.attributes["activation"] = number(SILU); }},
      {"sums too long", [=](Call& x) { x.results[1] = floats({columns + 1}); }},
      {"a result that no activation asks for", [=](Call& x) { x.attributes["activation"] = number(NONE), x.results[0] = floats({rows + 1, columns}); }},
      {"a result too high", [=](Call& x) { x.results[0] = floats({rows + 1, columns}); }},
      {"activation 5", [](Call& x) { x.attributes["activation"] = number(5); }},
      {"activation -2^63", [](Call& x) { x.attributes["activation"] = number(INT64_MIN); }},
  };
  return made;
}

static const Tested tested_matmul("hpjax_matmul", hpjax_matmul, matmul);
static const Tested tested_pullback("hpjax_pullback", hpjax_pullback, pullback);

}  // namespace hpjax::tests
