"""The traced table of schedules from their text, as `resolve` makes it."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from hpjax import schedules
from hpjax.schedules import text as schedule_text

STEPS = 10_000


def packed(
    text: str,
    *,
    steps: int = STEPS,
    warmup: int = 0,
    shape: str = "linear",
    start: float = 0.0,
    momentum: float = 0.9,
    others: Mapping[str, str] | None = None,
    **given: object,
) -> dict[str, np.ndarray]:
    """Returns the table of a learning-rate schedule, of the momentum it cycles, and of other quantities."""
    clock = schedules.Clock(1, 1000, steps)
    parts = schedule_text.complete("schedule", schedule_text.parse("schedule", text), given)
    segments = schedules.plan("schedule", parts, clock, schedules.warmup_segment(warmup, shape, start))
    plans = {"learning_rate": segments, "momentum": schedules.momentum_plan(segments, {"momentum": momentum})}
    for quantity, other in (others or {}).items():
        complete = schedule_text.complete(quantity, schedule_text.parse(quantity, other), {})
        plans[quantity] = schedules.plan(quantity, complete, clock)
    return schedules.pack(plans)


@jax.jit
def curves(values):
    """Returns float32 [STEPS, quantities]: the factors at every step."""
    times = jnp.broadcast_to(jnp.arange(STEPS, dtype=jnp.int32)[:, None], (STEPS, len(schedules.QUANTITIES)))
    return jax.vmap(schedules.factors, (0, None))(times, values)


@jax.jit
def at(times, values, reduction):
    """Returns float32 [times, quantities]: the factors at some steps."""
    times = jnp.broadcast_to(times[:, None], (len(times), len(schedules.QUANTITIES)))
    return jax.vmap(schedules.factors, (0, None, None))(times, values, reduction)
