// The Python module: hands over the handlers as capsules, and says what this processor runs.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "handler.h"

namespace nb = nanobind;

extern "C" {
XLA_FFI_Error* hpjax_matmul(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_pullback(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_conv(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_conv_gradient(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_update(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_attention(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_attention_gradient(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_norm(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_norm_gradient(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_batch_moments(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_batch_norm(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_batch_norm_sums(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_batch_norm_gradient(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_perceptron(XLA_FFI_CallFrame*);
XLA_FFI_Error* hpjax_perceptron_gradient(XLA_FFI_CallFrame*);
}

NB_MODULE(_kernels, m) {
  m.def("handlers", [] {
    nb::dict found;
    const auto add = [&](const char* name, auto* handler) { found[name] = nb::capsule(reinterpret_cast<void*>(handler)); };
    add("hpjax_matmul", hpjax_matmul);
    add("hpjax_pullback", hpjax_pullback);
    add("hpjax_conv", hpjax_conv);
    add("hpjax_conv_gradient", hpjax_conv_gradient);
    add("hpjax_update", hpjax_update);
    add("hpjax_attention", hpjax_attention);
    add("hpjax_attention_gradient", hpjax_attention_gradient);
    add("hpjax_norm", hpjax_norm);
    add("hpjax_norm_gradient", hpjax_norm_gradient);
    add("hpjax_batch_moments", hpjax_batch_moments);
    add("hpjax_batch_norm", hpjax_batch_norm);
    add("hpjax_batch_norm_sums", hpjax_batch_norm_sums);
    add("hpjax_batch_norm_gradient", hpjax_batch_norm_gradient);
    add("hpjax_perceptron", hpjax_perceptron);
    add("hpjax_perceptron_gradient", hpjax_perceptron_gradient);
    return found;
  }, "The handlers by the name of their target: capsules for jax.ffi.register_ffi_target.");
  m.def("available", [] {
    nb::list names;
    for (const char* const* name = hpjax::available(); *name; ++name) names.append(nb::str(*name));
    return names;
  }, "Instruction sets that this processor runs, the best first.");
  m.def("chosen", [] { return std::string(hpjax::operators().name); }, "The instruction set in use.");
  m.def("choose", [](const std::string& name) { return hpjax::choose(name.c_str()); }, nb::arg("name"),
        "Takes another instruction set, for the whole process; False if this processor cannot run it.");
  m.attr("ffi_api_version") = nb::make_tuple(XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR);
}
