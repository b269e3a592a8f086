// Compiled once for each instruction set, with its name and sizes as macros (CMakeLists.txt).
#include "bf16.h"
#include "simd/attention.h"
#include "simd/batch_norm.h"
#include "simd/norm.h"
#include "simd/perceptron.h"
#include "simd/update.h"

#define HPJAX_TEXT(x) #x
#define HPJAX_QUOTED(x) HPJAX_TEXT(x)

namespace hpjax::HPJAX_ISA {

extern const Operators OPERATORS;
const Operators OPERATORS = {HPJAX_QUOTED(HPJAX_ISA), either_matmul, pullback, either_conv_forward, either_conv_backward, update,
                             attention_forward, attention_backward, norm_forward, norm_backward,
                             batch_moments, batch_apply, batch_sums, batch_backward,
                             perceptron_forward, perceptron_backward};

}  // namespace hpjax::HPJAX_ISA
