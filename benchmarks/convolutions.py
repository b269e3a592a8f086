"""A small convolution on one core, forward and both gradients, beside the rate of a large product of matrices there."""

import math
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SECONDS = 3.0
TIMES = 40
"""Convolutions of one program: what its call costs is not theirs."""
X, KERNEL, Y = (64, 14, 14, 16), (3, 3, 16, 32), (64, 14, 14, 32)
SIDE = 1024


def hpjax_conv(part: str) -> dict[str, float]:
    """3 x 3 from 16 to 32 channels, 64 pictures of 14 x 14, bias, relu: `forward`, `to_input` or `to_kernel`; GF/s."""
    _on_one_core()
    import jax
    from jax import lax

    from hpjax import devices
    from hpjax.ops import conv, native

    devices.configure()
    x, kernel, bias, cotangent = _normal(*X), _normal(*KERNEL), _normal(KERNEL[-1]), _normal(*Y)
    convolved: Callable[..., Any] = lambda x, kernel, bias: conv(x, kernel, bias, activation="relu")  # noqa: E731

    def work(operands: Any) -> Any:
        x, kernel, bias, pullback_of = operands
        if part == "forward":
            return convolved(x, kernel, bias)
        return pullback_of(cotangent)[0 if part == "to_input" else 1]

    @jax.jit
    def several(x: Any, kernel: Any, bias: Any, times: Any) -> Any:
        with native.scope(True):
            _, pullback_of = jax.vjp(convolved, x, kernel, bias)
            operands = (x, kernel, bias, pullback_of)
            begun = jax.tree.map(lambda shape: jax.numpy.zeros(shape.shape), jax.eval_shape(lambda: work(operands)))
            # Behind a condition, for XLA would make one of what is the same each time.
            return lax.fori_loop(0, TIMES, lambda i, last: lax.cond(i < times, lambda: work(operands), lambda: last), begun)

    operations = 2.0 * math.prod(Y) * math.prod(KERNEL[:3])
    return {"rate": operations * TIMES / 1e9 / _seconds(lambda: jax.block_until_ready(several(x, kernel, bias, TIMES)))}


def numpy_product() -> dict[str, float]:
    """A float32 product of two matrices of 1,024 x 1,024 by NumPy's BLAS on one core; GF/s."""
    from threadpoolctl import threadpool_limits

    _on_one_core()
    a, b = _normal(SIDE, SIDE), _normal(SIDE, SIDE)
    with threadpool_limits(1):
        return {"rate": 2e-9 * SIDE**3 / _seconds(lambda: a @ b)}


def torch_product() -> dict[str, float]:
    """The same by PyTorch on one core; GF/s."""
    _on_one_core()
    import torch

    torch.set_num_threads(1)
    a, b = torch.from_numpy(_normal(SIDE, SIDE)), torch.from_numpy(_normal(SIDE, SIDE))
    return {"rate": 2e-9 * SIDE**3 / _seconds(lambda: a @ b)}


def _on_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _seconds(work: Callable[[], Any]) -> float:
    """Returns the seconds of one call, a mean over `SECONDS`, after a warm-up."""
    for _ in range(3):
        work()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        work()
        done += 1
    return (time.perf_counter() - began) / done
