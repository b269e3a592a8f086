"""One step of an optimizer over ResNet-50's tensors, by hpjax, PyTorch and Optax."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SECONDS = 4.0
STEPS = 10
"""Steps of a program of ours: as in a run they follow each other in it, and what a call costs is not theirs."""
RATE = 1e-3
SETTINGS = {
    "momentum": {"momentum": 0.9},
    "adamw": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01},
    "lars": {"momentum": 0.9, "weight_decay": 2e-4, "trust_coefficient": 1e-3, "epsilon": 1e-9},
    "lamb": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-6, "weight_decay": 0.01},
}
BYTES = {"momentum": 20, "adamw": 28, "lars": 28, "lamb": 40}
"""What a parameter's step reads and writes at least, where no cache holds a tensor until it is read again."""
NARROW_BYTES = {"momentum": 16, "adamw": 20, "lars": 24, "lamb": 28}
"""The same with buffers in bfloat16."""


def resnet50_shapes() -> list[tuple[int, ...]]:
    """Returns the shapes of ResNet-50's 161 parameters, 25.6 million in all."""
    shapes: list[tuple[int, ...]] = []

    def convolution(size: int, inputs: int, outputs: int) -> None:
        shapes.extend([(size, size, inputs, outputs), (outputs,), (outputs,)])

    convolution(7, 3, 64)
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            convolution(1, inputs, width)
            convolution(3, width, width)
            convolution(1, width, 4 * width)
            if block == 0:
                convolution(1, inputs, 4 * width)
            inputs = 4 * width
    return [*shapes, (2048, 1000), (1000,)]


def hpjax_step(name: str, threads: int, moment_dtype: str = "float32") -> dict[str, float]:
    """The native step in place, by so many threads; steps/s, and a triad's time for the same bytes as a share of its own."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    from hpjax.ops import native
    from hpjax.optimizers import fused, transformation

    values = {setting: np.float32(value) for setting, value in SETTINGS[name].items()}
    params, gradients = _arrays(), _arrays()
    state = transformation(name, RATE, values, {"moment_dtype": moment_dtype}).init(params)

    def update(_: Any, carry: Any, gradients: Any) -> Any:
        params, state, _ = carry
        with native.scope(True, threads):
            step = fused.step(
                name, np.float32(RATE), values, None, jnp.float32(1.0), gradients, state, params, jax.random.key(0)
            )
        return step.params, step.state, step.norms

    def updates(params: Any, state: Any, gradients: Any) -> Any:
        begun = params, state, (jnp.float32(0.0),) * 3
        return lax.fori_loop(0, STEPS, lambda i, carry: update(i, carry, gradients), begun)

    # In the order of the results, or XLA gives a buffer to another tensor and copies.
    steps = jax.jit(updates, donate_argnums=(0, 1))
    triad = jax.jit(lambda a, b: a + 1.5 * b, donate_argnums=0)
    many = sum(leaf.size for leaf in params) * (BYTES if moment_dtype == "float32" else NARROW_BYTES)[name] // 12
    a, b = jnp.zeros(many), jnp.ones(many)

    def stepped() -> None:
        nonlocal params, state
        params, state, norms = steps(params, state, gradients)
        jax.block_until_ready(norms)

    def streamed() -> None:
        nonlocal a
        a = jax.block_until_ready(triad(a, b))

    # One after the other: what the triad leaves in the caches is not the step's to write back.
    seconds, floor = _median(stepped) / STEPS, _median(streamed)
    return {"rate": 1 / seconds, "ms": seconds * 1e3, "of_stream": floor / seconds}


def optax_step(name: str) -> dict[str, float]:
    """Optax's own form, compiled, in place; steps/s."""
    import jax
    import optax

    made: dict[str, Callable[[], optax.GradientTransformation]] = {
        "lars": lambda: optax.lars(RATE, 2e-4, momentum=0.9),
        "lamb": lambda: optax.lamb(RATE, weight_decay=0.01),
    }
    transformation = made[name]()
    params, gradients = _arrays(), _arrays()
    state = transformation.init(params)

    def update(params: Any, state: Any, gradients: Any) -> Any:
        updates, state = transformation.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(update, donate_argnums=(0, 1))

    def stepped() -> None:
        nonlocal params, state
        params, state = jax.block_until_ready(step(params, state, gradients))

    seconds = _median(stepped)
    return {"rate": 1 / seconds, "ms": seconds * 1e3}


def torch_step(name: str, threads: int) -> dict[str, float]:
    """PyTorch's fused optimizer; steps/s."""
    import torch

    torch.set_num_threads(threads)
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in resnet50_shapes()]
    for parameter in params:
        parameter.grad = torch.randn_like(parameter)
    optimizer: torch.optim.Optimizer
    if name == "momentum":
        optimizer = torch.optim.SGD(params, lr=RATE, momentum=0.9, fused=True)
    else:
        optimizer = torch.optim.AdamW(params, lr=RATE, weight_decay=0.01, fused=True)
    seconds = _median(optimizer.step)
    return {"rate": 1 / seconds, "ms": seconds * 1e3}


def _arrays() -> list[Any]:
    import jax

    keys = jax.random.split(jax.random.key(0), 161)
    return [jax.random.normal(key, shape) for key, shape in zip(keys, resnet50_shapes(), strict=True)]


def _median(work: Callable[[], Any]) -> float:
    """Returns the median seconds of a work, done again and again for `SECONDS` after a warm-up."""
    seconds: list[float] = []
    work()
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
