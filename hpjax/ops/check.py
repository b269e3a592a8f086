"""What the operators run on, whether they compute what they should, and how fast: for `python -m hpjax.ops`."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hpjax import devices, optimizers
from hpjax.ops import batch_norm, conv, dense, native, perceptron, precision, residual_norm, self_attention

BOUND = 1e-5
"""Largest relative error of a float32 result that passes: values and gradients alike."""
BF16_BOUND = 1e-2
"""Likewise of a result whose operands are rounded to bfloat16."""
SECONDS = 0.2
"""How long a rate is measured."""
STEPS = 10
"""Steps of an optimizer in one program: they follow each other in place, as in a run."""


class Case(NamedTuple):
    """An operator at work.

    Attributes:
      operator: its name.
      what: of what size.
      run: the work, with gradients where there are any; traced.
      arguments: float arrays.
      amount: what a run comes to, 1e9 of `unit`.
      unit: `GF` (floating-point operations) or `GB` (bytes read and written).
      compute_dtype: in what it multiplies, see `precision`.
    """

    operator: str
    what: str
    run: Callable[..., Any]
    arguments: tuple[np.ndarray, ...]
    amount: float
    unit: str
    compute_dtype: str = "float32"


class Row(NamedTuple):
    """What was found of an operator: errors are relative to float64, rates in 1e9 a second; None without the kernels."""

    case: Case
    native_error: float | None
    native_rate: float | None
    xla_error: float
    xla_rate: float

    @property
    def sound(self) -> bool:
        """Whether all errors are within their bound."""
        bound = BOUND if self.case.compute_dtype == "float32" else BF16_BOUND
        return all(error is None or error <= bound for error in (self.native_error, self.xla_error))


def cases() -> list[Case]:
    """Returns the operators that have native kernels, each at a size of a small network's."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape) / 10

    def with_gradients(function: Callable[..., jax.Array]) -> Callable[..., Any]:
        def run(*arguments: jax.Array) -> Any:
            y, pullback = jax.vjp(function, *arguments)
            return y, pullback(jnp.ones_like(y))

        return run

    def steps(gradients: jax.Array, weights: jax.Array, mean: jax.Array, square: jax.Array) -> Any:
        made = optimizers.transformation("adamw", 1e-3, ADAMW)

        def step(_: Any, before: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            weights, mean, square = before
            (adam, *rest), *_ = made.init(weights)
            state: Any = ((adam._replace(mu=[mean], nu=[square]), *rest),)
            if optimizers.fused.available("adamw", {}, [weights]):
                one = jnp.float32(1.0)
                weights, state, _ = optimizers.fused.step("adamw", 1e-3, ADAMW, None, one, gradients, state, weights)
            else:
                updates, state = made.update(gradients, state, weights)
                weights += updates
            return weights, state[0][0].mu[0], state[0][0].nu[0]

        return lax.fori_loop(0, STEPS, step, (weights, mean, square**2))

    size = (1024, 1024)
    products = [
        Case(
            "conv",
            "64 pictures of 14 x 14 x 16, 3 x 3 to 32, bias, relu, with gradients",
            with_gradients(lambda x, k, b: conv(x, k, b, activation="relu")),
            (normal(64, 14, 14, 16), normal(3, 3, 16, 32), normal(32)),
            3 * 2e-9 * 64 * 14 * 14 * 9 * 16 * 32,
            "GF",
        ),
        Case(
            "dense",
            "128 x 128 x 128, bias, relu, with gradients",
            with_gradients(lambda x, k, b: dense(x, k, b, "relu")),
            (normal(128, 128), normal(128, 128), normal(128)),
            3 * 2e-9 * 128**3,
            "GF",
        ),
    ]
    return [
        *products,
        *(case._replace(operator=f"{case.operator} bf16", compute_dtype="bfloat16") for case in products),
        Case(
            "perceptron",
            "768 x 128 to 512 to 128, biases, gelu, with gradients",
            with_gradients(lambda x, k, b, to_k, to_b: perceptron(x, k, b, to_k, to_b, "gelu")),
            (normal(768, 128), normal(128, 512), normal(512), normal(512, 128), normal(128)),
            3 * 4e-9 * 768 * 128 * 512,
            "GF",
        ),
        Case(
            "attention",
            "12 sequences of 64, 4 heads of 32, causal, with gradients",
            with_gradients(lambda qkv: self_attention(qkv, 4, causal=True)),
            (normal(12, 64, 384),),
            7e-9 * 12 * 64**2 * 128,
            "GF",
        ),
        Case(
            "norm",
            "768 x 128 added to as many, with gradients",
            with_gradients(lambda *arrays: residual_norm(*arrays)[1]),
            (normal(768, 128), normal(768, 128), normal(128), normal(128)),
            7 * 4e-9 * 768 * 128,
            "GB",
        ),
        Case(
            "batch norm",
            "128 pictures of 32 x 32 x 16, added to as many, relu, with gradients",
            with_gradients(lambda *arrays: batch_norm(*arrays, activation="relu")[0]),
            (normal(128, 32, 32, 16), normal(16), normal(16), normal(128, 32, 32, 16)),
            12 * 4e-9 * 128 * 32**2 * 16,
            "GB",
        ),
        Case(
            "update",
            "AdamW of a million parameters",
            steps,
            tuple(normal(*size) for _ in range(4)),
            STEPS * 7 * 4e-9 * 1024**2,
            "GB",
        ),
    ]


ADAMW = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}


def measured(which: Sequence[Case], with_native: bool) -> list[Row]:
    """Returns what is found of some operators.

    Args:
      which: from `cases`.
      with_native: whether the native kernels are run, too.
    """
    rows = []
    for case in which:
        with jax.enable_x64(True):
            right = _flat(jax.jit(case.run)(*case.arguments))
        error, rate = _run(case, True, right) if with_native else (None, None)
        rows.append(Row(case, error, rate, *_run(case, False, right)))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Returns the findings as lines."""
    lines = [f"{'operator':<10} {'runs on':<16} {'native':>22} {'XLA':>22}   size"]
    for row in rows:
        on = f"native ({native.instruction_set()})" if row.native_rate is not None else "XLA"
        said = [_said(error, rate, row.case.unit) for error, rate in ((row.native_error, row.native_rate), row[3:])]
        lines.append(f"{row.case.operator:<10} {on:<16} {said[0]:>22} {said[1]:>22}   {row.case.what}")
    cores = devices.cores()
    on = "one core" if cores == 1 else f"{cores} cores"
    lines.append(f"Each: 1e9 operations or bytes a second on {on}, and the error relative to float64.")
    return "\n".join(lines)


def _said(error: float | None, rate: float | None, unit: str) -> str:
    return "-" if error is None or rate is None else f"{rate:.1f} {unit}/s  {error:.0e}"


def _run(case: Case, on: bool, right: np.ndarray) -> tuple[float, float]:
    """Returns the error and the rate of a case with the kernels on or off."""
    arguments = [jnp.asarray(argument, jnp.float32) for argument in case.arguments]

    def traced(*arguments: jax.Array) -> Any:
        with native.scope(on), precision.scope(case.compute_dtype):
            return case.run(*arguments)

    program = jax.jit(traced)
    found = _flat(program(*arguments))
    seconds: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(seconds) < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        seconds.append(time.perf_counter() - began)
    return float(np.linalg.norm(found - right) / np.linalg.norm(right)), case.amount / statistics.median(seconds)


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(jax.device_get(tree))])
