// Products of matrices with bias and activation, and the cotangent of what went into an activation.
#include <algorithm>

#include "handler.h"

namespace hpjax {

static ffi::Error matmul(Array a, Array b, Array bias, Result c, Result before, bool transpose_a, bool transpose_b,
                         bool bf16, int64_t activation) {
  if (a.dimensions().size() != 2 || b.dimensions().size() != 2) return refused("matmul: a " + shape(a) + ", b " + shape(b));
  Matmul m{};
  m.transpose_a = transpose_a, m.transpose_b = transpose_b, m.bf16 = bf16;
  m.rows = a.dimensions()[transpose_a], m.depth = a.dimensions()[!transpose_a];
  m.columns = b.dimensions()[!transpose_b];
  const bool fit = b.dimensions()[transpose_b] == m.depth && is(*c, {m.rows, m.columns}) && is_or_none(bias, {m.columns}) &&
                   is_or_none(*before, {m.rows, m.columns});
  if (!fit || !known(activation) || (transpose_a && before->element_count() > 0))
    return refused("matmul: a " + shape(a) + ", b " + shape(b) + ", bias " + shape(bias) + ", result " + shape(*c) +
                   ", before " + shape(*before) + ", activation " + std::to_string(activation) + " do not fit");
  if (c->element_count() == 0) return ffi::Error::Success();
  m.a = a.typed_data(), m.b = b.typed_data(), m.c = c->typed_data();
  m.bias = data_or_null(bias), m.before = data_or_null(*before);
  m.activation = static_cast<Activation>(activation);
  operators().matmul(m);
  return ffi::Error::Success();
}

static ffi::Error pullback(Array saved, Array cotangent, Result result, Result sums, int64_t activation) {
  if (cotangent.dimensions().size() != 2) return refused("pullback: cotangent " + shape(cotangent));
  Pullback p{};
  p.rows = cotangent.dimensions()[0], p.columns = cotangent.dimensions()[1];
  const bool through = activation != NONE;
  const bool fit = is_or_none(*sums, {p.columns}) && known(activation) &&
                   (through ? is(saved, {p.rows, p.columns}) && is(*result, {p.rows, p.columns})
                            : result->element_count() == 0);
  if (!fit)
    return refused("pullback: saved " + shape(saved) + ", cotangent " + shape(cotangent) + ", result " + shape(*result) +
                   ", sums " + shape(*sums) + ", activation " + std::to_string(activation) + " do not fit");
  p.activation = static_cast<Activation>(activation);
  p.saved = data_or_null(saved), p.cotangent = data_or_null(cotangent);
  p.result = data_or_null(*result), p.sums = data_or_null(*sums);
  operators().pullback(p);
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_matmul, matmul,
                              ffi::Ffi::Bind()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Attr<bool>("transpose_a")
                                  .Attr<bool>("transpose_b")
                                  .Attr<bool>("bf16")
                                  .Attr<int64_t>("activation"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_pullback, pullback,
                              ffi::Ffi::Bind().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Array>().Attr<int64_t>("activation"));

}  // namespace hpjax
