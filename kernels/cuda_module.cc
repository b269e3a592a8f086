// The Python module of what runs on a GPU of NVIDIA's: hands over the handlers as capsules.
#include <nanobind/nanobind.h>

#include "handler.h"

namespace nb = nanobind;

extern "C" XLA_FFI_Error* hpjax_update_cuda(XLA_FFI_CallFrame*);

NB_MODULE(_cuda_kernels, m) {
  m.def("handlers", [] {
    nb::dict found;
    found["hpjax_update"] = nb::capsule(reinterpret_cast<void*>(hpjax_update_cuda));
    return found;
  }, "The handlers by the name of their target: capsules for jax.ffi.register_ffi_target, platform CUDA.");
}
