// Attention of sequences to themselves, and its gradient.
#include <algorithm>
#include <cmath>

#include "handler.h"

namespace hpjax {

// Reads the sizes; returns whether they make sense together.
static bool read(Attention& a, const Array& qkv, int64_t heads, bool causal) {
  const auto sizes = qkv.dimensions();
  if (sizes.size() != 3 || heads < 1 || sizes[2] < 1 || sizes[2] % 3 != 0 || sizes[2] / 3 % heads != 0) return false;
  a.batch = sizes[0], a.time = sizes[1], a.heads = heads, a.dim = sizes[2] / 3 / heads, a.causal = causal;
  a.scale = 1.0f / std::sqrt(static_cast<float>(a.dim));
  a.qkv = qkv.typed_data();
  // Scratch is of two times the square of the time.
  return a.time <= 16384;
}

static ffi::Error forward(Array qkv, Result y, Result statistics, int64_t heads, bool causal) {
  AttentionForward a{};
  if (!read(a, qkv, heads, causal) || !is(*y, {a.batch, a.time, a.heads * a.dim}) ||
      !is(*statistics, {a.batch, a.heads, 2, a.time}))
    return refused("attention: qkv " + shape(qkv) + ", " + std::to_string(heads) + " heads, result " + shape(*y) +
                   ", statistics " + shape(*statistics) + " do not fit");
  a.y = y->typed_data(), a.statistics = statistics->typed_data();
  operators().attention_forward(a);
  return ffi::Error::Success();
}

static ffi::Error backward(Array qkv, Array statistics, Array cotangent, Result to_qkv, int64_t heads, bool causal) {
  AttentionBackward a{};
  if (!read(a, qkv, heads, causal) || !is(cotangent, {a.batch, a.time, a.heads * a.dim}) ||
      !is(statistics, {a.batch, a.heads, 2, a.time}) || !is(*to_qkv, {a.batch, a.time, 3 * a.heads * a.dim}))
    return refused("attention gradient: qkv " + shape(qkv) + ", " + std::to_string(heads) + " heads, cotangent " +
                   shape(cotangent) + ", statistics " + shape(statistics) + ", result " + shape(*to_qkv) + " do not fit");
  a.statistics = statistics.typed_data(), a.cotangent = cotangent.typed_data(), a.to_qkv = to_qkv->typed_data();
  operators().attention_backward(a);
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    hpjax_attention, forward,
    ffi::Ffi::Bind().Arg<Array>().Ret<Array>().Ret<Array>().Attr<int64_t>("heads").Attr<bool>("causal"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_attention_gradient, backward,
                              ffi::Ffi::Bind()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Attr<int64_t>("heads")
                                  .Attr<bool>("causal"));

}  // namespace hpjax
