// Two dense layers with an activation between them, and their gradient.
#include <algorithm>

#include "handler.h"

namespace hpjax {

// Reads the sizes; returns whether they fit.
static bool read(Perceptron& p, const Array& x, const Array& kernel, const Array& out_kernel, int64_t activation) {
  const auto xs = x.dimensions(), first = kernel.dimensions(), second = out_kernel.dimensions();
  if (xs.size() != 2 || first.size() != 2 || second.size() != 2 || !known(activation)) return false;
  p.rows = xs[0], p.inputs = xs[1], p.hidden = first[1], p.outputs = second[1];
  p.activation = static_cast<Activation>(activation);
  p.x = x.typed_data(), p.kernel = kernel.typed_data(), p.out_kernel = out_kernel.typed_data();
  return first[0] == p.inputs && second[0] == p.hidden && p.rows > 0 && p.inputs > 0 && p.hidden > 0 && p.outputs > 0;
}

static std::string described(const Array& x, const Array& kernel, const Array& out_kernel) {
  return "x " + shape(x) + ", kernels " + shape(kernel) + " and " + shape(out_kernel);
}

static ffi::Error forward(Array x, Array kernel, Array bias, Array out_kernel, Array out_bias, Result y, Result before,
                          int64_t activation) {
  PerceptronForward p{};
  if (!read(p, x, kernel, out_kernel, activation) || !is(bias, {p.hidden}) || !is(out_bias, {p.outputs}) ||
      !is(*y, {p.rows, p.outputs}) || !is_or_none(*before, {p.rows, p.hidden}))
    return refused("perceptron: " + described(x, kernel, out_kernel) + ", biases " + shape(bias) + " and " + shape(out_bias) +
                   ", result " + shape(*y) + ", before " + shape(*before) + ", activation " + std::to_string(activation) +
                   " do not fit");
  p.bias = bias.typed_data(), p.out_bias = out_bias.typed_data();
  p.y = y->typed_data(), p.before = data_or_null(*before);
  operators().perceptron_forward(p);
  return ffi::Error::Success();
}

static ffi::Error backward(Array x, Array kernel, Array out_kernel, Array before, Array cotangent, Result to_x,
                           Result to_kernel, Result to_bias, Result to_out_kernel, Result to_out_bias, int64_t activation) {
  PerceptronBackward p{};
  if (!read(p, x, kernel, out_kernel, activation) || !is(before, {p.rows, p.hidden}) || !is(cotangent, {p.rows, p.outputs}) ||
      !is(*to_x, {p.rows, p.inputs}) || !is(*to_kernel, {p.inputs, p.hidden}) || !is(*to_bias, {p.hidden}) ||
      !is(*to_out_kernel, {p.hidden, p.outputs}) || !is(*to_out_bias, {p.outputs}))
    return refused("perceptron gradient: " + described(x, kernel, out_kernel) + ", before " + shape(before) + ", cotangent " +
                   shape(cotangent) + ", result " + shape(*to_x) + ", activation " + std::to_string(activation) +
                   " do not fit");
  p.before = before.typed_data(), p.cotangent = cotangent.typed_data();
  p.to_x = to_x->typed_data(), p.to_kernel = to_kernel->typed_data(), p.to_bias = to_bias->typed_data();
  p.to_out_kernel = to_out_kernel->typed_data(), p.to_out_bias = to_out_bias->typed_data();
  operators().perceptron_backward(p);
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_perceptron, forward,
                              ffi::Ffi::Bind()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Attr<int64_t>("activation"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_perceptron_gradient, backward,
                              ffi::Ffi::Bind()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Attr<int64_t>("activation"));

}  // namespace hpjax
