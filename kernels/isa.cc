// Compiled once for each instruction set, with its name and sizes as macros (CMakeLists.txt).
#include "arithmetic.h"
#include "simd/attention.h"
#include "simd/batch_norm.h"
#include "simd/norm.h"
#include "simd/update.h"

#define HPJAX_TEXT(x) #x
#define HPJAX_QUOTED(x) HPJAX_TEXT(x)

namespace hpjax::HPJAX_ISA {

extern const Operators OPERATORS;
const Operators OPERATORS = {HPJAX_QUOTED(HPJAX_ISA), best_matmul, pullback, best_conv_forward, best_conv_backward, update,
                             attention_forward, attention_backward, norm_forward, norm_backward,
                             batch_moments, batch_apply, batch_sums, batch_backward,
                             best_perceptron_forward, best_perceptron_backward};

}  // namespace hpjax::HPJAX_ISA
