// What a call of the optimizer's step holds, checked: for the CPU's handler and CUDA's, whose operands are the same.
#pragma once
#include <vector>

#include "handler.h"

namespace hpjax {

using Floats = ffi::Span<const float>;
using Numbers = ffi::Span<const int64_t>;

constexpr int64_t RATES = sizeof(Rates) / sizeof(float);
static_assert(RATES == 15, "native_update.py fills them in this order");

// The arrays may lie in the memory of another device.
struct UpdateCall {
  Rule rule;
  bool narrow;
  const float* rates;    // [RATES]
  const uint32_t* keys;  // [parameters, 2]; null where buffers are float32
  float* norms;          // [3]
  std::vector<Parameter> parameters;
};

// Operands: the rates, the keys of the tensors where buffers are narrow (bfloat16), then of each tensor gradient, weight and
// the buffers of the rule. Results: the norms, then of each tensor new weight and buffers.
inline ffi::Error read(UpdateCall& call, ffi::RemainingArgs& args, ffi::RemainingRets& rets, int64_t rule, bool narrow,
                       Floats rate, Floats decay, Numbers layerwise) {
  if (rule < 0 || rule >= RULES) return refused("update: rule " + std::to_string(rule) + " is unknown");
  call.rule = static_cast<Rule>(rule), call.narrow = narrow, call.keys = nullptr;
  const int64_t kept = buffers(call.rule), count = static_cast<int64_t>(rate.size()), before = narrow ? 2 : 1;
  if (decay.size() != rate.size() || layerwise.size() != rate.size() ||
      static_cast<int64_t>(args.size()) != before + (2 + kept) * count ||
      static_cast<int64_t>(rets.size()) != 1 + (1 + kept) * count)
    return refused("update: " + std::to_string(args.size()) + " operands and " + std::to_string(rets.size()) +
                   " results of " + std::to_string(count) + " tensors do not fit");
  auto rates = args.get<Array>(0);
  auto norms = rets.get<Array>(0);
  if (!rates || !norms || !is(*rates, {RATES}) || !is(**norms, {3})) return refused("update: rates or norms do not fit");
  call.rates = rates->typed_data(), call.norms = (*norms)->typed_data();
  if (narrow) {
    auto keys = args.get<ffi::Buffer<ffi::U32>>(1);
    if (!keys || !is(*keys, {count, 2})) return refused("update: keys do not fit");
    call.keys = keys->typed_data();
  }
  call.parameters.resize(static_cast<size_t>(count));
  for (int64_t k = 0; k < count; ++k) {
    Parameter& p = call.parameters[static_cast<size_t>(k)];
    const int64_t from = before + (2 + kept) * k, to = 1 + (1 + kept) * k;
    const void* read[4] = {};
    void* written[3] = {};
    for (int64_t i = 0; i < 2 + kept; ++i) {
      const bool half = narrow && i > 1;
      auto operand = args.get<ffi::AnyBuffer>(static_cast<size_t>(from + i));
      if (!operand || operand->element_type() != (half ? ffi::BF16 : ffi::F32))
        return refused("update: operand " + std::to_string(from + i) + " is not " + (half ? "bfloat16" : "float32"));
      if (i == 0) p.size = static_cast<int64_t>(operand->element_count());
      if (static_cast<int64_t>(operand->element_count()) != p.size)
        return refused("update: operand " + shape(*operand) + " of a tensor of " + std::to_string(p.size) + " does not fit");
      read[i] = operand->untyped_data();
    }
    for (int64_t i = 0; i < 1 + kept; ++i) {
      auto result = rets.get<ffi::AnyBuffer>(static_cast<size_t>(to + i));
      if (!result || (*result)->element_type() != (narrow && i > 0 ? ffi::BF16 : ffi::F32) ||
          static_cast<int64_t>((*result)->element_count()) != p.size)
        return refused("update: result " + std::to_string(to + i) + " does not fit");
      written[i] = (*result)->untyped_data();
    }
    p.rate = rate[static_cast<size_t>(k)], p.decay = decay[static_cast<size_t>(k)];
    p.layerwise = layerwise[static_cast<size_t>(k)] != 0;
    p.gradient = static_cast<const float*>(read[0]), p.weight = static_cast<const float*>(read[1]);
    p.first = read[2], p.second = read[3];
    p.new_weight = static_cast<float*>(written[0]), p.new_first = written[1], p.new_second = written[2];
  }
  return ffi::Error::Success();
}

}  // namespace hpjax
