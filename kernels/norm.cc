// Layer normalisation of a sum, and its gradient.
#include <algorithm>

#include "handler.h"

namespace hpjax {

static ffi::Error forward(Array x, Array branch, Array scale, Array bias, Result sum, Result y, Result statistics,
                          ffi::Span<const float> epsilon) {
  NormForward a{};
  const bool ranks = x.dimensions().size() == 2 && epsilon.size() == 1;
  if (ranks) a.rows = x.dimensions()[0], a.features = x.dimensions()[1];
  const bool added = branch.element_count() > 0;
  if (!ranks || !is_or_none(branch, {a.rows, a.features}) || (added ? !is(*sum, {a.rows, a.features}) : sum->element_count() > 0) ||
      !is(scale, {a.features}) || !is(bias, {a.features}) || !is(*y, {a.rows, a.features}) || !is(*statistics, {a.rows, 2}))
    return refused("norm: x " + shape(x) + ", branch " + shape(branch) + ", scale " + shape(scale) + ", bias " + shape(bias) +
                   ", sum " + shape(*sum) + ", result " + shape(*y) + ", statistics " + shape(*statistics) + " do not fit");
  a.epsilon = epsilon[0];
  a.x = x.typed_data(), a.branch = data_or_null(branch), a.scale = scale.typed_data(), a.bias = bias.typed_data();
  a.sum = data_or_null(*sum), a.y = y->typed_data(), a.statistics = statistics->typed_data();
  operators().norm_forward(a);
  return ffi::Error::Success();
}

static ffi::Error backward(Array x, Array scale, Array statistics, Array cotangent, Array through, Result to_x,
                           Result to_scale, Result to_bias) {
  NormBackward a{};
  const bool rank = x.dimensions().size() == 2;
  if (rank) a.rows = x.dimensions()[0], a.features = x.dimensions()[1];
  if (!rank || !is(scale, {a.features}) || !is(statistics, {a.rows, 2}) || !is(cotangent, {a.rows, a.features}) ||
      !is_or_none(through, {a.rows, a.features}) || !is(*to_x, {a.rows, a.features}) || !is(*to_scale, {a.features}) ||
      !is(*to_bias, {a.features}))
    return refused("norm gradient: x " + shape(x) + ", scale " + shape(scale) + ", statistics " + shape(statistics) +
                   ", cotangent " + shape(cotangent) + ", through " + shape(through) + ", result " + shape(*to_x) +
                   " do not fit");
  a.x = x.typed_data(), a.scale = scale.typed_data(), a.statistics = statistics.typed_data();
  a.cotangent = cotangent.typed_data(), a.through = data_or_null(through);
  a.to_x = to_x->typed_data(), a.to_scale = to_scale->typed_data(), a.to_bias = to_bias->typed_data();
  operators().norm_backward(a);
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_norm, forward,
                              ffi::Ffi::Bind()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Attr<ffi::Span<const float>>("epsilon"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_norm_gradient, backward,
                              ffi::Ffi::Bind()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>());

}  // namespace hpjax
