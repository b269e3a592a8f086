// One step of an optimizer over all its tensors.
#include <vector>

#include "handler.h"

namespace hpjax {

using Floats = ffi::Span<const float>;
using Numbers = ffi::Span<const int64_t>;

constexpr int64_t RATES = sizeof(Rates) / sizeof(float);
static_assert(RATES == 15, "native_update.py fills them in this order");

// Operands: the rates, then of each tensor gradient, weight and the buffers of the rule. Results: the norms, then of each
// tensor new weight and buffers.
static ffi::Error update(ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t rule, Floats rate, Floats decay,
                         Numbers layerwise) {
  if (rule < 0 || rule >= RULES) return refused("update: rule " + std::to_string(rule) + " is unknown");
  Update u{};
  u.rule = static_cast<Rule>(rule);
  u.count = static_cast<int64_t>(rate.size());
  const int64_t kept = buffers(u.rule), count = u.count;
  const auto counts = std::to_string(args.size()) + " operands and " + std::to_string(rets.size()) + " results of " +
                      std::to_string(count) + " tensors do not fit";
  if (decay.size() != rate.size() || layerwise.size() != rate.size() ||
      static_cast<int64_t>(args.size()) != 1 + (2 + kept) * count || static_cast<int64_t>(rets.size()) != 1 + (1 + kept) * count)
    return refused("update: " + counts);
  auto rates = args.get<Array>(0);
  auto norms = rets.get<Array>(0);
  if (!rates || !norms || !is(*rates, {RATES}) || !is(**norms, {3})) return refused("update: rates or norms do not fit");
  const float* given = rates->typed_data();
  u.rates = {given[0], given[1], given[2],  given[3],  given[4],  given[5],  given[6], given[7],
             given[8], given[9], given[10], given[11], given[12], given[13], given[14]};
  u.norms = (*norms)->typed_data();
  std::vector<Parameter> parameters(static_cast<size_t>(count));
  for (int64_t k = 0; k < count; ++k) {
    Parameter& p = parameters[static_cast<size_t>(k)];
    const size_t from = static_cast<size_t>(1 + (2 + kept) * k), to = static_cast<size_t>(1 + (1 + kept) * k);
    const float* read[4] = {};
    float* written[3] = {};
    for (int64_t i = 0; i < 2 + kept; ++i) {
      auto operand = args.get<Array>(from + static_cast<size_t>(i));
      if (!operand) return refused("update: operand " + std::to_string(from + static_cast<size_t>(i)) + " is not float32");
      if (i == 0) p.size = static_cast<int64_t>(operand->element_count());
      if (static_cast<int64_t>(operand->element_count()) != p.size)
        return refused("update: operand " + shape(*operand) + " of a tensor of " + std::to_string(p.size) + " does not fit");
      read[i] = operand->typed_data();
    }
    for (int64_t i = 0; i < 1 + kept; ++i) {
      auto result = rets.get<Array>(to + static_cast<size_t>(i));
      if (!result || static_cast<int64_t>((*result)->element_count()) != p.size)
        return refused("update: result " + std::to_string(to + static_cast<size_t>(i)) + " does not fit");
      written[i] = (*result)->typed_data();
    }
    p.rate = rate[static_cast<size_t>(k)], p.decay = decay[static_cast<size_t>(k)];
    p.layerwise = layerwise[static_cast<size_t>(k)] != 0;
    p.gradient = read[0], p.weight = read[1], p.first = read[2], p.second = read[3];
    p.new_weight = written[0], p.new_first = written[1], p.new_second = written[2];
  }
  u.parameters = parameters.data();
  operators().update(u);
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(hpjax_update, update,
                              ffi::Ffi::Bind()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<int64_t>("rule")
                                  .Attr<Floats>("rate")
                                  .Attr<Floats>("decay")
                                  .Attr<Numbers>("layerwise"));

}  // namespace hpjax
