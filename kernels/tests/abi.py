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
    how = {"transpose_a": False, "transpose_b": True, "bf16": False, "activation": np.int64(1)}
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
    "bf16": False,
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
    more = {"rule": np.int64(1), "narrow": False, "clips": False, "threads": np.int64(2)}
    norms, *new = call(target, [(3,), *shapes], rates, *operands, **how, **more)
    squares = np.zeros(3)
    for k, (gradient, weight, buffer) in enumerate(tensors):
        mean = rates[0].astype(float) * gradient
        moved = rates[9].astype(float) * buffer + mean
        step = rates[1].astype(float) * how["rate"][k] * moved
        yield new[2 * k], weight - step
        yield new[2 * k + 1], moved
        squares += (mean**2).sum(), ((weight - step) ** 2).sum(), (step**2).sum()
    yield norms, np.sqrt(squares)


@calls
def norm(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """Layer norm of a sum; what is kept of it is checked by the gradient."""
    x, branch, scale, bias = normal(5, 19), normal(5, 19), normal(19), normal(19)
    total, y, _ = call(target, [(5, 19), (5, 19), (5, 2)], x, branch, scale, bias, epsilon=np.array([1e-3], np.float32))
    wide = x.astype(float) + branch
    yield total, wide
    yield y, _normed(wide)[0] * scale + bias


def _normed(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows of mean 0 and variance 1, and their means and the inverses of their deviations, side by side."""
    mean, inverse = x.mean(1), 1 / np.sqrt(x.var(1) + np.float32(1e-3))
    return (x - mean[:, None]) * inverse[:, None], np.stack([mean, inverse], 1)


@calls
def norm_gradient(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """Its gradients, with a cotangent of the sum itself."""
    x, scale, cotangent, through = normal(5, 19), normal(19), normal(5, 19), normal(5, 19)
    y, kept = _normed(x.astype(float))
    shapes = [(5, 19), (19,), (19,)]
    to_x, to_scale, to_bias = call(target, shapes, x, scale, kept.astype(np.float32), cotangent, through)
    inner = cotangent.astype(float) * scale
    plain = inner - inner.mean(1, keepdims=True) - y * (inner * y).mean(1, keepdims=True)
    yield to_x, plain * kept[:, 1:] + through
    yield to_scale, (cotangent * y).sum(0)
    yield to_bias, cotangent.astype(float).sum(0)


def _channels() -> tuple[np.ndarray, ...]:
    """Returns x [37, 19], and mean, factor and bias of its channels."""
    return normal(37, 19), normal(19), normal(19), normal(19)


@calls
def batch_moments(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """Means and variances of channels, beside a mean of 100."""
    x = normal(37, 19) + np.float32(100)
    mean, variance = call(target, [(19,), (19,)], x)
    yield mean, x.astype(float).mean(0)
    yield variance, x.astype(float).var(0)


@calls
def batch_norm(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """The result through relu, with a residual."""
    (x, mean, factor, bias), residual = _channels(), normal(37, 19)
    (y,) = call(target, [(37, 19)], x, mean, factor, bias, residual, relu=True)
    yield y, np.maximum((x.astype(float) - mean) * factor + bias + residual, 0)


@calls
def batch_norm_sums(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """The sums of two cotangents through a relu whose result is known, and the cotangent before it."""
    (x, mean, factor, bias), y, one, other = _channels(), normal(37, 19), normal(37, 19), normal(37, 19)
    operands = x, mean, factor, bias, y, one, other
    total, product, inner = call(target, [(19,), (19,), (37, 19)], *operands, relu=True)
    expected = (one.astype(float) + other) * (y > 0)
    yield inner, expected
    yield total, expected.sum(0)
    yield product, (expected * (x.astype(float) - mean)).sum(0)


@calls
def batch_norm_gradient(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """The gradient of x, where relu let through what lies above 0."""
    (x, mean, factor, bias), shift, slope, cotangent = _channels(), normal(19), normal(19), normal(37, 19)
    (to_x,) = call(target, [(37, 19)], x, mean, factor, bias, shift, slope, cotangent, relu=True)
    centred = x.astype(float) - mean
    yield to_x, factor * (cotangent * (centred * factor + bias > 0) - shift - centred * slope)


HEADS = {"heads": np.int64(2), "causal": True}


def _attention(qkv: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns queries, keys, values and weights, float64 [batch, time, heads, dim] and [batch, heads, time, time]."""
    q, k, v = np.moveaxis(qkv.astype(float).reshape(2, 9, 3, 2, 5), 2, 0)
    scores = np.where(np.tri(9, dtype=bool), np.einsum("nqhd,nkhd->nhqk", q, k) / np.sqrt(5), -np.inf)
    weights = np.exp(scores - scores.max(3, keepdims=True))
    return q, k, v, weights / weights.sum(3, keepdims=True)


@calls
def attention(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """Causal attention of two heads."""
    qkv = normal(2, 9, 30)
    y, _ = call(target, [(2, 9, 10), (2, 2, 2, 9)], qkv, **HEADS)
    _, _, v, weights = _attention(qkv)
    yield y, np.einsum("nhqk,nkhd->nqhd", weights, v).reshape(2, 9, 10)


@calls
def attention_gradient(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """Its gradient, from what `attention` keeps."""
    qkv, cotangent = normal(2, 9, 30), normal(2, 9, 10)
    _, statistics = call("hpjax_attention", [(2, 9, 10), (2, 2, 2, 9)], qkv, **HEADS)
    (to_qkv,) = call(target, [qkv.shape], qkv, statistics, cotangent, **HEADS)
    q, k, v, weights = _attention(qkv)
    wide = cotangent.astype(float).reshape(2, 9, 2, 5)
    inner = np.einsum("nqhd,nkhd->nhqk", wide, v)
    scores = weights * (inner - (weights * inner).sum(3, keepdims=True)) / np.sqrt(5)
    parts = (
        np.einsum("nhqk,nkhd->nqhd", scores, k),
        np.einsum("nhqk,nqhd->nkhd", scores, q),
        np.einsum("nhqk,nqhd->nkhd", weights, wide),
    )
    yield to_qkv, np.stack(parts, 2).reshape(qkv.shape)


@calls
def perceptron(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """Two layers with relu between them, and what went into it."""
    arrays = normal(7, 11), normal(11, 21), normal(21), normal(21, 9), normal(9)
    y, before = call(target, [(7, 9), (7, 21)], *arrays, activation=np.int64(1))
    x, kernel, bias, out_kernel, out_bias = (array.astype(float) for array in arrays)
    expected = x @ kernel + bias
    yield before, expected
    yield y, np.maximum(expected, 0) @ out_kernel + out_bias


@calls
def perceptron_gradient(target: str) -> Iterator[tuple[Any, np.ndarray]]:
    """Its five gradients."""
    arrays = normal(7, 11), normal(11, 21), normal(21, 9), normal(7, 21), normal(7, 9)
    found = call(target, [(7, 11), (11, 21), (21,), (21, 9), (9,)], *arrays, activation=np.int64(1))
    x, kernel, out_kernel, before, cotangent = (array.astype(float) for array in arrays)
    inner = cotangent @ out_kernel.T * (before > 0)
    yield from zip(
        found,
        (inner @ kernel.T, x.T @ inner, inner.sum(0), np.maximum(before, 0).T @ cotangent, cotangent.sum(0)),
        strict=True,
    )


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
