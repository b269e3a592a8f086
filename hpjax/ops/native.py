"""The native kernels of `kernels/`: whether they are here, whether a program uses them, and the one way to call them."""

import contextlib
import contextvars
import functools
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

NUMBERS = {"none": 0, "relu": 1, "tanh": 2, "gelu": 3, "silu": 4}
"""The activations that the kernels know, and their numbers there."""

_ON: contextvars.ContextVar[bool] = contextvars.ContextVar("native", default=False)
_THREADS: contextvars.ContextVar[int] = contextvars.ContextVar("threads", default=1)


@functools.cache
def missing() -> str | None:
    """Returns why there are no native kernels, or None where they are: loaded and registered with JAX."""
    try:
        from hpjax import _kernels  # type: ignore[attr-defined]
    except ImportError as error:
        return _unbuilt("_kernels", "a C++17 compiler (g++ or clang++)", error)
    for name, handler in _kernels.handlers().items():
        jax.ffi.register_ffi_target(name, handler, platform="cpu")
    return None


@functools.cache
def missing_cuda() -> str | None:
    """Returns why there are no CUDA kernels, or None where they are: loaded and registered with JAX."""
    try:
        from hpjax import _cuda_kernels  # type: ignore[attr-defined]
    except ImportError as error:
        return _unbuilt("_cuda_kernels", "HPJAX_CUDA=1 and nvcc", error)
    for name, handler in _cuda_kernels.handlers().items():
        jax.ffi.register_ffi_target(name, handler, platform="CUDA")
    return None


def _unbuilt(module: str, needs: str, error: ImportError) -> str:
    if importlib.util.find_spec(f"hpjax.{module}") is not None:
        return f"not loaded ({' '.join(str(error).split())})"
    # The folder: in a clone, Python takes the clone's hpjax before one that was installed with its kernels.
    return f"not in {Path(__file__).parents[1]} (installing hpjax builds them where it finds {needs})"


def instruction_set() -> str | None:
    """Returns the name of the instruction set that the kernels run with; None where there are none."""
    if missing() is not None:
        return None
    from hpjax import _kernels  # type: ignore[attr-defined]

    return str(_kernels.chosen())


def available() -> tuple[str, ...]:
    """Returns the names of the instruction sets that this processor runs and the kernels have, the best first."""
    if missing() is not None:
        return ()
    from hpjax import _kernels  # type: ignore[attr-defined]

    return tuple(_kernels.available())


def in_use(mode: str) -> str:
    """Returns what the kernels of a program run on: an instruction set, CUDA, or XLA where there are none.

    Args:
      mode: the setting `native`, resolved.
    """
    if mode == "on" and jax.default_backend() == "gpu" and missing_cuda() is None:
        return "CUDA"
    return (instruction_set() if mode == "on" and jax.default_backend() == "cpu" else None) or "XLA"


def described(mode: str, compute_dtype: str = "float32") -> str:
    """Returns the line that says what the operators run on; `mode` is the setting `native`, resolved."""
    return _described(mode) + ("" if compute_dtype == "float32" else f", products of {compute_dtype}")


def _described(mode: str) -> str:
    if mode == "on" and in_use(mode) == "CUDA":
        return "kernels: native for the optimizer's step (CUDA), XLA for the rest"
    if mode == "on" and jax.default_backend() != "cpu":
        return f"kernels: XLA alone; the native ones are for a CPU, JAX runs on {jax.default_backend()}"
    if mode == "on":
        return f"kernels: native ({instruction_set()})"
    return "kernels: XLA alone" + (f"; the native ones are {missing()}" if missing() is not None else " (native is off)")


@contextlib.contextmanager
def scope(on: bool, threads: int = 1) -> Iterator[None]:
    """Programs that are traced inside use the native kernels, or do not. Outside of any scope they do not.

    Args:
      on: whether they do.
      threads: how many one call may use, where the operator knows how; its results are the same bit for bit.
    """
    token, of_threads = _ON.set(on), _THREADS.set(threads)
    try:
        yield
    finally:
        _ON.reset(token)
        _THREADS.reset(of_threads)


def threads() -> int:
    """Returns how many threads a call may use that is traced now."""
    return _THREADS.get()


def used(*arrays: jax.Array | None, cuda: bool = False) -> bool:
    """Returns whether an operator of these arrays runs natively: in scope, on a CPU, all float32, none empty.

    Args:
      *arrays: what it is given.
      cuda: whether it runs on a GPU as well, where the CUDA kernels are.
    """
    if not _ON.get() or missing() is not None:
        return False
    if jax.default_backend() != "cpu" and not (cuda and jax.default_backend() == "gpu" and missing_cuda() is None):
        return False
    return all(array is None or (array.dtype == jnp.float32 and array.size > 0) for array in arrays)


def call(
    target: str,
    results: Sequence[jax.ShapeDtypeStruct],
    *operands: jax.Array,
    aliases: dict[int, int] | None = None,
    **attributes: Any,
) -> Any:
    """Calls a handler; under vmap it runs lane after lane.

    Args:
      target: the handler's name.
      results: shapes and dtypes of its results.
      *operands: its operands.
      aliases: places of operands in whose memory results may be written, to the places of those results.
      **attributes: its attributes: bools, ints, sequences of ints, or float32 arrays.

    Raises:
      ValueError: there are no kernels.
    """
    if (reason := missing()) is not None:
        raise ValueError(f"the native kernels are {reason}")
    made = {name: _attribute(value) for name, value in attributes.items()}
    called = jax.ffi.ffi_call(target, tuple(results), vmap_method="sequential", input_output_aliases=aliases)
    return called(*operands, **made)


def floats(*shape: int) -> jax.ShapeDtypeStruct:
    """Returns the shape of a float32 result; of no elements where it is not asked for."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _attribute(value: Any) -> Any:
    if isinstance(value, (bool, np.ndarray)):
        return value
    return np.int64(value) if isinstance(value, int) else np.asarray(value, np.int64)
