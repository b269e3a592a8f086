// Products and convolutions by what is quickest here: float32 by vectors or by the AMX unit, operands rounded to bfloat16 by tiles
// or by vectors of rounded copies.
#pragma once
#include "simd/conv.h"
#include "simd/matmul.h"
#include "simd/perceptron.h"
#ifdef HPJAX_TILES
#include "amx/conv.h"
#include "amx/conv_gradient.h"
#include "amx/matmul.h"
#else
#include "simd/rounded.h"
#endif
#ifdef HPJAX_UNIT
#include "amx/triples.h"
#endif

namespace hpjax::HPJAX_ISA {

#ifdef HPJAX_UNIT
static bool by_triples(const Matmul& m) { return fills_tiles(m.rows, m.columns, m.depth) && ByTriples::product(m); }
static bool by_triples(const PerceptronForward& p) { return ByTriples::fit(p) && perceptron_forward<ByTriples>(p); }
static bool by_triples(const PerceptronBackward& p) { return ByTriples::fit(p) && perceptron_backward<ByTriples>(p); }
#else
template <class Any>
static bool by_triples(const Any&) { return false; }
#endif

static void best_matmul(const Matmul& m) {
  if (m.bf16 && m.depth > 0) return matmul_bf16(m);
  if (!by_triples(m)) matmul(m);
}
static void best_conv_forward(const ConvForward& c) { c.bf16 ? conv_forward_bf16(c) : conv_forward(c); }
// Of no pictures the sums are 0: by tiles they begin with the first picture.
static void best_conv_backward(const ConvBackward& c) { c.bf16 && c.batch > 0 ? conv_backward_bf16(c) : conv_backward(c); }
static void best_perceptron_forward(const PerceptronForward& p) {
  if (!by_triples(p)) perceptron_forward<ByVectors>(p);
}
static void best_perceptron_backward(const PerceptronBackward& p) {
  if (!by_triples(p)) perceptron_backward<ByVectors>(p);
}

}  // namespace hpjax::HPJAX_ISA
