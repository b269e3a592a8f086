// Convolutions in two dimensions with bias, activation and 2 x 2 maximum pooling, and their gradients.
#include <algorithm>

#include "handler.h"

namespace hpjax {

using Bytes = ffi::Buffer<ffi::U8>;
using Numbers = ffi::Span<const int64_t>;

constexpr int64_t MOST = int64_t{1} << 24;  // of any size: products of two stay far below 2^63

// Reads a convolution's sizes; returns what does not fit, or an empty text.
static std::string read(Conv& c, const Array& x, const Array& kernel, Numbers size, Numbers stride, Numbers dilation,
                        Numbers before, int64_t activation, bool pool, bool bf16) {
  if (x.dimensions().size() != 4 || kernel.dimensions().size() != 4) return "ranks";
  if (size.size() != 2 || stride.size() != 2 || dilation.size() != 2 || before.size() != 2) return "attributes";
  const auto xs = x.dimensions(), ks = kernel.dimensions();
  c.batch = xs[0], c.height = xs[1], c.width = xs[2], c.channels = xs[3];
  c.taps_down = ks[0], c.taps_across = ks[1], c.features = ks[3];
  c.rows = size[0], c.columns = size[1];
  c.stride_down = stride[0], c.stride_across = stride[1];
  c.dilation_down = dilation[0], c.dilation_across = dilation[1];
  c.above = before[0], c.left = before[1];
  c.activation = static_cast<Activation>(activation), c.pool = pool, c.bf16 = bf16;
  if (ks[2] != c.channels) return "channels";
  for (int64_t s : {c.height, c.width, c.channels, c.taps_down, c.taps_across, c.features, c.rows, c.columns, c.stride_down,
                    c.stride_across, c.dilation_down, c.dilation_across})
    if (s < 1 || s > MOST) return "sizes";
  if (c.taps_down > MOST_TAPS || c.taps_across > MOST_TAPS) return "taps";
  for (int64_t s : {c.above, c.left})
    if (s < 0 || s > MOST) return "padding";
  // Scratch is of a few pictures; what would not fit a signed 32-bit offset is refused.
  const double padded = double((c.rows - 1) * c.stride_down + (c.taps_down - 1) * c.dilation_down + 1 + c.above) *
                        double((c.columns - 1) * c.stride_across + (c.taps_across - 1) * c.dilation_across + 1 + c.left);
  if (padded * double(std::max(c.channels, c.features)) > 5e8 || c.stride_down * c.stride_across > 64) return "size of a picture";
  if (activation != NONE && activation != RELU) return "activation";
  if (pool && (c.rows < 2 || c.columns < 2)) return "size of a picture to pool";
  return "";
}

static std::string described(const Array& x, const Array& kernel) { return "x " + shape(x) + ", kernel " + shape(kernel); }

static ffi::Error forward(Array x, Array kernel, Array bias, Result y, ffi::ResultBuffer<ffi::U8> ties, Numbers size,
                          Numbers stride, Numbers dilation, Numbers before, int64_t activation, bool pool, bool bf16) {
  ConvForward c{};
  std::string wrong = read(c, x, kernel, size, stride, dilation, before, activation, pool, bf16);
  if (wrong.empty()) {
    const int64_t share = pool ? 2 : 1;
    const std::initializer_list<int64_t> result = {c.batch, c.rows / share, c.columns / share, c.features};
    if (!is(*y, result) || !is_or_none(bias, {c.features}) || !is_or_none(*ties, result)) wrong = "results";
  }
  if (!wrong.empty()) return refused("conv: " + described(x, kernel) + ", result " + shape(*y) + ": " + wrong + " do not fit");
  c.x = x.typed_data(), c.kernel = kernel.typed_data(), c.bias = data_or_null(bias);
  c.y = fresh(y), c.ties = data_or_null(*ties);
  operators().conv_forward(c);
  return ffi::Error::Success();
}

static ffi::Error backward(Array x, Array kernel, Array y, Bytes ties, Array cotangent, Result to_x, Result to_kernel,
                           Result to_bias, Numbers size, Numbers stride, Numbers dilation, Numbers before, int64_t activation,
                           bool pool, bool bf16) {
  ConvBackward c{};
  std::string wrong = read(c, x, kernel, size, stride, dilation, before, activation, pool, bf16);
  if (wrong.empty()) {
    const int64_t share = pool ? 2 : 1;
    const std::initializer_list<int64_t> result = {c.batch, c.rows / share, c.columns / share, c.features};
    const bool fit = is(cotangent, result) && (activation == NONE || is(y, result)) && (!pool || is(ties, result)) &&
                     is_or_none(*to_x, {c.batch, c.height, c.width, c.channels}) &&
                     is_or_none(*to_kernel, {c.taps_down, c.taps_across, c.channels, c.features}) &&
                     is_or_none(*to_bias, {c.features});
    if (!fit) wrong = "results";
  }
  if (!wrong.empty()) return refused("conv gradient: " + described(x, kernel) + ", cotangent " + shape(cotangent) + ": " + wrong + " do not fit");
  c.x = x.typed_data(), c.kernel = kernel.typed_data(), c.y = y.typed_data(), c.ties = ties.typed_data();
  c.cotangent = cotangent.typed_data();
  c.to_x = fresh_or_null(to_x), c.to_kernel = data_or_null(*to_kernel), c.to_bias = data_or_null(*to_bias);
  operators().conv_backward(c);
  return ffi::Error::Success();
}

#define HPJAX_CONV_ATTRIBUTES       \
  .Attr<Numbers>("size")            \
      .Attr<Numbers>("stride")      \
      .Attr<Numbers>("dilation")    \
      .Attr<Numbers>("before")      \
      .Attr<int64_t>("activation")  \
      .Attr<bool>("pool")           \
      .Attr<bool>("bf16")

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    hpjax_conv, forward,
    ffi::Ffi::Bind().Arg<Array>().Arg<Array>().Arg<Array>().Ret<Array>().Ret<Bytes>() HPJAX_CONV_ATTRIBUTES);
XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_conv_gradient, backward,
                              ffi::Ffi::Bind()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Bytes>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>() HPJAX_CONV_ATTRIBUTES);

}  // namespace hpjax
