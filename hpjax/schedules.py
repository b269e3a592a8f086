"""Learning-rate schedules: pure functions of the optimizer step whose every argument may be traced.

A schedule returns a *factor* of the peak value, so that one schedule serves learning rate, momentum or weight decay.
`factor(step, values)` composes a schedule with warmup: warmup covers the first `warmup_steps` updates, then the schedule
starts at its own step 0 and has `schedule_steps - warmup_steps` updates left. The total therefore includes the warmup.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike as Scalar

from hpjax.registry import Registry

Schedule = Callable[..., jax.Array]
SCHEDULES: Registry[Schedule] = Registry("schedule")


@SCHEDULES.register
def constant(step: jax.Array, total_steps: jax.Array) -> jax.Array:
    """Stays at the peak.

    Args:
      step: int32 scalar, 0-based optimizer update since the end of warmup.
      total_steps: int32 scalar, updates after warmup (unused).

    Returns:
      float32 scalar, the factor of the peak value.
    """
    del step, total_steps
    return jnp.float32(1.0)


@SCHEDULES.register
def cosine(step: jax.Array, total_steps: jax.Array, *, end_factor: Scalar = 0.0) -> jax.Array:
    """Half a cosine from the peak to `end_factor`, where it stays (torch's CosineAnnealingLR rises again).

    Args:
      step: int32 scalar, 0-based optimizer update since the end of warmup.
      total_steps: int32 scalar, updates over which the value falls.
      end_factor: float32 scalar >= 0, value at the end as a factor of the peak.

    Returns:
      float32 scalar, the factor of the peak value.

    Source: Loshchilov and Hutter, SGDR (2017), equation 5 without restarts.
    """
    # sin^2 of the remaining part is (1 + cos(pi t / T)) / 2 without the cancellation near the end.
    total = jnp.maximum(total_steps, 1)
    remaining = (total - jnp.minimum(step, total)).astype(jnp.float32) / total.astype(jnp.float32)
    end_factor = jnp.asarray(end_factor, jnp.float32)
    return end_factor + (1.0 - end_factor) * jnp.sin(jnp.float32(jnp.pi / 2) * remaining) ** 2


@SCHEDULES.register
def step(step: jax.Array, total_steps: jax.Array, *, step_size: Scalar, gamma: Scalar = 0.1) -> jax.Array:
    """Multiplies by `gamma` every `step_size` updates (torch's StepLR).

    Args:
      step: int32 scalar, 0-based optimizer update since the end of warmup.
      total_steps: int32 scalar, updates after warmup (unused).
      step_size: int32 scalar >= 1, updates between two drops.
      gamma: float32 scalar > 0, what each drop multiplies by.

    Returns:
      float32 scalar, the factor of the peak value.
    """
    del total_steps
    return jnp.power(jnp.asarray(gamma, jnp.float32), (step // step_size).astype(jnp.float32))


def factor(step: jax.Array, values: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the factor of the peak at an update, warmup included.

    Args:
      step: int32 scalar, 0-based optimizer update.
      values: scalars by name: `schedule` (int32, place in `SCHEDULES.names()`), `warmup_steps` and `schedule_steps`
        (int32), `warmup_start_factor` (float32) and the settings of every registered schedule. All may be traced.

    Returns:
      float32 scalar. The first update of a linear warmup over w updates gets 1/w, not 0.
    """
    warmup = values["warmup_steps"]

    def branch(name: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
        settings = {key: values[key] for key in SCHEDULES.settings(name)}
        return lambda step, total: SCHEDULES.get(name)(step, total, **settings)

    branches = [branch(name) for name in SCHEDULES.names()]
    after = lax.switch(values["schedule"], branches, jnp.maximum(step - warmup, 0), values["schedule_steps"] - warmup)
    start = values["warmup_start_factor"]
    done = (step + 1).astype(jnp.float32) / jnp.maximum(warmup, 1).astype(jnp.float32)
    return jnp.where(step < warmup, start + (1.0 - start) * done, after)
