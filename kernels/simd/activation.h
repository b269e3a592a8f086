// Activations as epilogues of a product, and their derivatives. The numbers are those of `operators.h`.
#pragma once
#include "../operators.h"
#include "vector.h"

namespace hpjax::HPJAX_ISA {

// sigmoid(2u) with u the argument of tanh in the GELU's tanh form (Hendrycks and Gimpel 2016).
constexpr float GELU_SCALE = 1.5957691216057308f, GELU_CUBE = 0.044715f;

template <Activation A>
INLINE V activate(V x) {
  if (A == RELU) return select(x > V{}, x, select(x == x, V{}, x));
  if (A == TANH) return tanh(x);
  if (A == SILU) return x * sigmoid(x);
  if (A == GELU) return x * sigmoid(splat(GELU_SCALE) * (x + splat(GELU_CUBE) * x * x * x));
  return x;
}

// The cotangent of the input, from the output of relu and tanh, from the input of the others.
template <Activation A>
INLINE V pullback(V saved, V cotangent) {
  const V one = splat(1.0f);
  if (A == RELU) return select(saved > V{}, cotangent, V{});
  if (A == TANH) return cotangent * (one - saved * saved);
  if (A == SILU) {
    V s = sigmoid(saved);
    return cotangent * (s + saved * s * (one - s));
  }
  if (A == GELU) {
    V square = saved * saved;
    V s = sigmoid(splat(GELU_SCALE) * (saved + splat(GELU_CUBE) * square * saved));
    return cotangent * (s + saved * s * (one - s) * splat(GELU_SCALE) * (one + splat(3 * GELU_CUBE) * square));
  }
  return cotangent;
}

// What comes out for x, and the cotangent of x.
template <Activation A>
INLINE void through(V x, V cotangent, V& y, V& to_x) {
  if (A == GELU) {
    const V square = x * x, s = sigmoid(splat(GELU_SCALE) * (x + splat(GELU_CUBE) * square * x));
    y = x * s;
    to_x = cotangent * (s + y * (splat(1.0f) - s) * splat(GELU_SCALE) * (splat(1.0f) + splat(3 * GELU_CUBE) * square));
  } else if (A == SILU) {
    const V s = sigmoid(x);
    y = x * s;
    to_x = cotangent * (s + y * (splat(1.0f) - s));
  } else {
    y = activate<A>(x);
    to_x = pullback<A>(y, cotangent);
  }
}

INLINE V activate(Activation a, V x) {
  switch (a) {
    case RELU: return activate<RELU>(x);
    case TANH: return activate<TANH>(x);
    case SILU: return activate<SILU>(x);
    case GELU: return activate<GELU>(x);
    default: return x;
  }
}

INLINE V pullback(Activation a, V saved, V cotangent) {
  switch (a) {
    case RELU: return pullback<RELU>(saved, cotangent);
    case TANH: return pullback<TANH>(saved, cotangent);
    case SILU: return pullback<SILU>(saved, cotangent);
    case GELU: return pullback<GELU>(saved, cotangent);
    default: return cotangent;
  }
}

}  // namespace hpjax::HPJAX_ISA
