// Batch normalisation with the addition of a residual and relu, in its four passes: moments, result, sums, gradient. Between
// the passes of a direction stand sums over the shards of a batch, which are none of a handler's business.
#include <algorithm>

#include "handler.h"

namespace hpjax {

// Reads the sizes that all passes share; returns whether they fit.
static bool read(BatchNorm& a, const Array& x) {
  if (x.dimensions().size() != 2) return false;
  a.rows = x.dimensions()[0], a.channels = x.dimensions()[1], a.x = x.typed_data();
  return a.rows > 0 && a.channels > 0;
}

template <class Call>
static bool read(Call& a, const Array& x, const Array& mean, const Array& factor, const Array& bias, bool relu) {
  if (!read(a, x) || !is(mean, {a.channels}) || !is(factor, {a.channels}) || !is(bias, {a.channels})) return false;
  a.mean = mean.typed_data(), a.factor = factor.typed_data(), a.bias = bias.typed_data(), a.relu = relu;
  return true;
}

static std::string described(const Array& x, const Array& mean, const Array& factor, const Array& bias) {
  return "x " + shape(x) + ", mean " + shape(mean) + ", factor " + shape(factor) + ", bias " + shape(bias);
}

static ffi::Error moments(Array x, Result mean, Result variance) {
  BatchMoments a{};
  if (!read(a, x) || !is(*mean, {a.channels}) || !is(*variance, {a.channels}))
    return refused("batch moments: x " + shape(x) + ", mean " + shape(*mean) + ", variance " + shape(*variance) + " do not fit");
  a.mean = mean->typed_data(), a.variance = variance->typed_data();
  operators().batch_moments(a);
  return ffi::Error::Success();
}

static ffi::Error apply(Array x, Array mean, Array factor, Array bias, Array residual, Result y, bool relu) {
  BatchApply a{};
  if (!read(a, x, mean, factor, bias, relu) || !is_or_none(residual, {a.rows, a.channels}) || !is(*y, {a.rows, a.channels}))
    return refused("batch norm: " + described(x, mean, factor, bias) + ", residual " + shape(residual) + ", result " +
                   shape(*y) + " do not fit");
  a.residual = data_or_null(residual), a.y = fresh(y);
  operators().batch_apply(a);
  return ffi::Error::Success();
}

static ffi::Error sums(Array x, Array mean, Array factor, Array bias, Array y, Array cotangent, Array other, Result sum,
                       Result product, Result inner, bool relu) {
  BatchSums a{};
  if (!read(a, x, mean, factor, bias, relu) || !is_or_none(y, {a.rows, a.channels}) || !is(cotangent, {a.rows, a.channels}) ||
      !is_or_none(other, {a.rows, a.channels}) || !is(*sum, {a.channels}) || !is(*product, {a.channels}) ||
      !is_or_none(*inner, {a.rows, a.channels}))
    return refused("batch norm sums: " + described(x, mean, factor, bias) + ", y " + shape(y) + ", cotangent " +
                   shape(cotangent) + ", other " + shape(other) + ", sum " + shape(*sum) + ", product " + shape(*product) +
                   ", inner " + shape(*inner) + " do not fit");
  a.y = data_or_null(y), a.cotangent = cotangent.typed_data(), a.other = data_or_null(other);
  a.sum = sum->typed_data(), a.product = product->typed_data(), a.inner = fresh_or_null(inner);
  operators().batch_sums(a);
  return ffi::Error::Success();
}

static ffi::Error backward(Array x, Array mean, Array factor, Array bias, Array shift, Array slope, Array cotangent,
                           Result to_x, bool relu) {
  BatchBackward a{};
  const bool fit = read(a, x, mean, factor, bias, relu) && is(cotangent, {a.rows, a.channels}) &&
                   is(*to_x, {a.rows, a.channels}) &&
                   (is(slope, {a.channels}) ? is(shift, {a.channels})
                                            : slope.element_count() == 0 && shift.element_count() == 0);
  if (!fit)
    return refused("batch norm gradient: " + described(x, mean, factor, bias) + ", shift " + shape(shift) + ", slope " +
                   shape(slope) + ", cotangent " + shape(cotangent) + ", result " + shape(*to_x) + " do not fit");
  a.shift = data_or_null(shift), a.slope = data_or_null(slope), a.cotangent = cotangent.typed_data();
  a.to_x = fresh(to_x);
  operators().batch_backward(a);
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_batch_moments, moments, ffi::Ffi::Bind().Arg<Array>().Ret<Array>().Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_batch_norm, apply,
                              ffi::Ffi::Bind()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Attr<bool>("relu"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_batch_norm_sums, sums,
                              ffi::Ffi::Bind()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Attr<bool>("relu"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_batch_norm_gradient, backward,
                              ffi::Ffi::Bind()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Attr<bool>("relu"));

}  // namespace hpjax
