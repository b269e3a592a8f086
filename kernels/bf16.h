// Products and convolutions in either arithmetic: float32, or of operands rounded to bfloat16.
#pragma once
#include "simd/conv.h"
#include "simd/matmul.h"
#ifdef HPJAX_TILES
#include "amx/conv.h"
#include "amx/conv_gradient.h"
#include "amx/matmul.h"
#else
#include "simd/rounded.h"
#endif

namespace hpjax::HPJAX_ISA {

static void either_matmul(const Matmul& m) { m.bf16 && m.depth > 0 ? matmul_bf16(m) : matmul(m); }
static void either_conv_forward(const ConvForward& c) { c.bf16 ? conv_forward_bf16(c) : conv_forward(c); }
// Of no pictures the sums are 0: by tiles they begin with the first picture.
static void either_conv_backward(const ConvBackward& c) { c.bf16 && c.batch > 0 ? conv_backward_bf16(c) : conv_backward(c); }

}  // namespace hpjax::HPJAX_ISA
