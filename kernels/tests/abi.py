"""Calls every handler once on each instruction set and checks its numbers: `make test-abi` does on several jaxlibs.

It imports JAX, NumPy and the module of the kernels alone: the rest of hpjax may not be installable where a jaxlib is new.
"""

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

BOUND = 1e-6
"""Relative, L2: of sums as short as these."""
RNG = np.random.default_rng()
CALLS: dict[str, Callable[[str], Iterator[tuple[Any, np.ndarray]]]] = {}
"""By the name of a target: calls it and yields what it gave and what it should have given, float64."""


def call(target: str, shapes: list[tuple[int, ...]], *operands: np.ndarray, **attributes: Any) -> list[np.ndarray]:
    """Returns the float32 results of a handler, compiled and run by XLA."""
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(lambda *operands: jax.ffi.ffi_call(target, results)(*operands, **attributes))(*operands)


def normal(*shape: int) -> np.ndarray:
    """Returns float32 random numbers."""
    return RNG.normal(size=shape).astype(np.float32)


def calls(function: Callable[[str], Iterator[tuple[Any, np.ndarray]]]) -> None:
    """Registers the call of the handler that a function is called after."""
    CALLS[f"hpjax_{function.__name__}"] = function


@calls
def matmul(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """op(a) op(b) + bias, through relu, with what went into it."""
    a, b, bias = normal(5, 37), normal(19, 37), normal(19)
    how = {"transpose_a": False, "transpose_b": True, "activation": np.int64(1)}
    y, before = call(target, [(5, 19), (5, 19)], a, b, bias, **how)
    expected = a.astype(float) @ b.astype(float).T + bias
    yield y, np.maximum(expected, 0)
    yield before, expected


@calls
def pullback(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """The cotangent through tanh, and its sums."""
    saved, cotangent = np.tanh(normal(7, 21)), normal(7, 21)
    through, sums = call(target, [(7, 21), (21,)], saved, cotangent, activation=np.int64(2))
    expected = cotangent * (1 - saved.astype(float) ** 2)
    yield through, expected
    yield sums, expected.sum(0)


HOW = {
    "size": np.array([4, 3]),
    "stride": np.array([1, 2]),
    "dilation": np.array([1, 1]),
    "before": np.array([1, 0]),
    "activation": np.int64(0),
    "pool": False,
}
"""A convolution of pictures of 4 x 7 with 3 x 3 taps: a row of zeros above and below, every second column."""


def patches(x: np.ndarray) -> np.ndarray:
    """Returns what its kernel sees, float64 [batch, 4, 3, 3, 3, channels]."""
    padded = np.pad(x.astype(float), ((0, 0), (1, 1), (0, 0), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, :, ::2]
    return views.transpose(0, 1, 2, 4, 5, 3)


@calls
def conv(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """A convolution with bias; ties are not asked for."""
    x, kernel, bias = normal(2, 4, 7, 5), normal(3, 3, 5, 9), normal(9)
    results = [jax.ShapeDtypeStruct((2, 4, 3, 9), jnp.float32), jax.ShapeDtypeStruct((0,), jnp.uint8)]
    y, _ = jax.jit(lambda *operands: jax.ffi.ffi_call(target, results)(*operands, **HOW))(x, kernel, bias)
    yield y, np.einsum("nrcijk,ijkf->nrcf", patches(x), kernel.astype(float)) + bias


@calls
def conv_gradient(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """Its three gradients; that of x as the convolution is linear: <to_x, d> = <cotangent, conv(d)>."""
    x, kernel, cotangent = normal(2, 4, 7, 5), normal(3, 3, 5, 9), normal(2, 4, 3, 9)
    none = np.zeros(0, np.float32)
    operands = x, kernel, none, np.zeros(0, np.uint8), cotangent
    to_x, to_kernel, to_bias = call(target, [x.shape, kernel.shape, (9,)], *operands, **HOW)
    wide = cotangent.astype(float)
    inner = np.einsum("nrcf,ijkf->nrcijk", wide, kernel.astype(float))
    basis = np.eye(x[0].size).reshape(-1, *x.shape[1:])
    yield to_x, np.einsum("brcijk,nrcijk->nb", patches(basis), inner).reshape(x.shape)
    yield to_kernel, np.einsum("nrcijk,nrcf->ijkf", patches(x), wide)
    yield to_bias, wide.sum((0, 1, 2))


@calls
def update(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """A step with momentum of two tensors, of which the second has half the rate."""
    rates = np.array([0.5, 0.1, *[np.inf] * 3, 0, 0, 0, 0, 0.9, 0, 0, 0, 1, 1], np.float32)
    tensors = [[normal(*shape) for _ in range(3)] for shape in ((33,), (4, 5))]
    shapes = [array.shape for tensor in tensors for array in tensor[1:]]
    how = {"rate": np.array([1, 0.5], np.float32), "decay": np.ones(2, np.float32), "layerwise": np.zeros(2, np.int64)}
    operands = [array for tensor in tensors for array in tensor]
    norms, *new = call(target, [(3,), *shapes], rates, *operands, rule=np.int64(1), **how)
    squares = np.zeros(3)
    for k, (gradient, weight, buffer) in enumerate(tensors):
        mean = rates[0].astype(float) * gradient
        moved = rates[9].astype(float) * buffer + mean
        step = rates[1].astype(float) * how["rate"][k] * moved
        yield new[2 * k], weight - step
        yield new[2 * k + 1], moved
        squares += (mean**2).sum(), ((weight - step) ** 2).sum(), (step**2).sum()
    yield norms, np.sqrt(squares)


def relative(found: Any, right: np.ndarray) -> float:
    """Returns the error of a result; NaN where it holds one."""
    return float(np.linalg.norm(np.asarray(found, float) - right) / np.linalg.norm(right))


def kernels() -> Any:
    """Returns the installed module of the kernels, without the package round it."""
    found = [
        Path(str(file.locate())) for file in importlib.metadata.files("hpjax") or () if file.match("hpjax/_kernels*.so")
    ]
    if not found:
        raise SystemExit("hpjax was installed without the native kernels: they did not build")
    spec = importlib.util.spec_from_file_location("_kernels", found[0])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Returns 0 where every handler is called and right."""
    module = kernels()
    handlers = module.handlers()
    built = ".".join(map(str, module.ffi_api_version))
    print(
        f"Python {platform.python_version()}, jaxlib {importlib.metadata.version('jaxlib')}; kernels built for FFI {built}"
    )
    if set(handlers) != set(CALLS):
        print(f"not called: {sorted(set(handlers) - set(CALLS))}; not there: {sorted(set(CALLS) - set(handlers))}")
        return 1
    wrong = 0
    for target, handler in handlers.items():
        jax.ffi.register_ffi_target(target, handler, platform="cpu")
        errors = {}
        for instructions in module.available():
            module.choose(instructions)
            apart = [
                np.linalg.norm(np.asarray(y, float) - right) / np.linalg.norm(right) for y, right in CALLS[target](target)
            ]
            errors[instructions] = max(apart)
        sound = all(error <= BOUND for error in errors.values())
        wrong += not sound
        said = ", ".join(f"{name} {error:.0e}" for name, error in errors.items())
        print(f"{'right' if sound else 'WRONG'}  {target:<20} {said}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
