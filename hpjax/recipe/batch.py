"""Step 5: how many examples a second each batch size makes, how noisy the gradient is, and which batch pays."""

import math
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hpjax.config import Config
from hpjax.inspection.settings import Inspections
from hpjax.recipe.bench import Bench
from hpjax.recipe.context import Context, plain
from hpjax.recipe.finding import Finding, Note, Table

SMALLEST, LARGEST = 16, 4096
FACTOR = 4
"""From one batch size to the next: every one is a program of its own to compile."""
SECONDS = 0.5
"""Of each measurement."""
GAIN = 1.15
"""What doubling the batch must add to the rate to pay."""
STEPS_BEFORE = 50
"""Optimizer steps after which the gradient noise is measured."""
WORSE = 1.02
LINEAR = ("sgd", "momentum", "nesterov", "lars")
"""Optimizers whose rate is scaled in proportion to the batch; the others' with its square root."""


def batch(context: Context, lr: Mapping[str, Any] | None) -> Finding:
    """Returns examples a second by batch size and the gradient noise scale; changes nothing.

    Args:
      context: the recipe.
      lr: facts of the learning rate finder, or None.

    Source: McCandlish et al., An Empirical Model of Large-Batch Training (2018), for the noise scale as the batch up to
      which steps get better almost in proportion; Goyal et al. (2017) and Krizhevsky (2014) for the two rules of scaling.
    """
    config, size = context.config, context.dataset.splits["train"][1]
    sizes: list[int] = []
    rates: list[float] = []
    most = min(LARGEST, size // 4)
    for one in _sizes(config.batch_size, most):
        # Each is a program to compile, and so is what comes after them.
        if sizes and context.time < 3 * context.unit:
            break
        sizes.append(one)
        rates.append(_rate(context, one))
    noise = _noise(context, lr)
    table: Table = {"batch_size": sizes, "examples_per_second": rates}
    pays = _paying(sizes, rates)
    suggested = _suggested(pays, noise, sizes)
    facts = {"noise_scale": noise, "pays": pays, "suggested": suggested, "at": config.batch_size}
    words = ", ".join(f"{one}: {rate:,.0f}" for one, rate in zip(sizes, rates, strict=True))
    notes = [Note("throughput", "ok", f"examples a second by batch size, all devices: {words}")]
    if math.isfinite(noise):
        notes.append(
            Note("noise_scale", "ok", f"the gradient noise scale is {noise:.3g} examples after {STEPS_BEFORE} steps")
        )
    advice = f"batch_size {config.batch_size} is kept"
    if suggested > 2 * config.batch_size and lr is not None and context.time > 2 * context.unit:
        rule = "in proportion" if config.optimizer in LINEAR else "with the square root"
        rule = rule if config.lr_scaling == "none" else f"by --lr_scaling={config.lr_scaling}"
        rate = scaled(float(lr["best"]), config, suggested)
        checked = _checked(context, float(lr["best"]), suggested, rate)
        facts |= {"scaled": rate, "checked": checked}
        end = (
            "ends as low in as many examples"
            if checked <= WORSE
            else f"ends {checked:.2f} times as high in as many examples"
        )
        notes.append(Note("scaling", "ok", f"batch_size {suggested} with the rate scaled {rule}, {rate:.2g}, {end}"))
        if checked <= WORSE:
            faster = rates[sizes.index(suggested)] / rates[sizes.index(config.batch_size)]
            advice += f"; {suggested} would make {faster:.1f} times the examples a second"
    return Finding("batch", tuple(notes), advice=advice, tables={"throughput": table}, facts=facts)


def scaled(rate: float, config: Config, size: int) -> float:
    """Returns a learning rate for another batch size: in proportion for momentum and its kin, else with the square root.

    One that `lr_scaling` scales stays: it is that of the base batch.
    """
    if config.lr_scaling != "none":
        return rate
    ratio = size / config.batch_size
    return rate * (ratio if config.optimizer in LINEAR else math.sqrt(ratio))


def _sizes(own: int, most: int) -> list[int]:
    """Returns the batch size asked for and others by a factor above and below it, the smallest last."""
    above, below = [], []
    one = own
    while one * FACTOR <= most:
        one *= FACTOR
        above.append(one)
    one = own
    while one // FACTOR >= SMALLEST and one % FACTOR == 0:
        one //= FACTOR
        below.append(one)
    return sorted([own, *above, *below])


def _rate(context: Context, size: int) -> float:
    """Returns examples a second of one trial on each device, all at once."""
    lanes = len(jax.devices())
    steps = min(10**6, 2**30 // size)
    config = plain(context.config, steps, batch_size=size, micro_batch_size=size, log_every="1000steps", learning_rate=1e-6)
    bench = Bench(config, context.dataset, lanes)
    states, values = bench.init([config] * lanes)
    ticks = 1
    while True:
        begun = time.monotonic()
        states, report = bench.program.chunk(states, values, bench.examples, ticks)
        jax.block_until_ready(report)
        seconds = time.monotonic() - begun
        if seconds > SECONDS and ticks > 1:
            return lanes * ticks * size / seconds
        # The first call compiles.
        ticks = 2 if ticks == 1 else max(ticks * 2, int(ticks * 1.2 * SECONDS / max(seconds, 1e-6)))


def _noise(context: Context, lr: Mapping[str, Any] | None) -> float:
    rate = float((context.config.learning_rate or 1e-3) if lr is None else lr["best"])
    config = plain(context.config, STEPS_BEFORE, learning_rate=rate, log_every=f"{STEPS_BEFORE}steps")
    bench = Bench(config, context.dataset, 1)
    states, curves = bench.run([config], STEPS_BEFORE, 1)
    if curves[0].diverged:
        return math.nan
    found = bench.program.inspect(states, bench.values([config]), bench.examples, Inspections(("noise_scale",)))
    return float(np.asarray(found["noise_scale"])[0])


def _paying(sizes: list[int], rates: list[float]) -> int:
    """Returns the largest batch size up to which each doubling adds to the rate."""
    best = 0
    for i in range(1, len(sizes)):
        doublings = math.log2(sizes[i] / sizes[best])
        if rates[i] < rates[best] * GAIN**doublings:
            break
        best = i
    return sizes[best]


def _suggested(pays: int, noise: float, sizes: list[int]) -> int:
    """Returns the batch size that pays, but for what the noise scale says is wasted."""
    most = pays if not math.isfinite(noise) else min(pays, max(noise, sizes[0]))
    return max(one for one in sizes if one <= most)


def _checked(context: Context, rate: float, size: int, new_rate: float) -> float:
    """Returns the loss with the larger batch and its rate, as a multiple of the loss without, in as many examples."""
    own = context.config.batch_size
    steps = max(STEPS_BEFORE, 4) * (size // own)
    ends = []
    for batch_size, one in ((own, rate), (size, new_rate)):
        number = max(steps * own // batch_size, 1)
        every = max(number // 4, 1)
        config = plain(
            context.config,
            number,
            batch_size=batch_size,
            micro_batch_size=batch_size,
            learning_rate=one,
            log_every=f"{every}steps",
        )
        _, (curve,) = Bench(config, context.dataset, 1).run([config], every, max(number // every, 1))
        ends.append(curve.losses[-1])
    return ends[1] / ends[0] if math.isfinite(ends[1]) else math.inf
