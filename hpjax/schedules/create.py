"""A schedule as a function of the step alone, for programs that are no trial: `create`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hpjax import config
from hpjax.config import FIELDS
from hpjax.errors import ConfigError, listed
from hpjax.registry import REQUIRED, Scalar
from hpjax.schedules import text
from hpjax.schedules.forms import WARMUP, call, forms, is_length, number_of
from hpjax.schedules.plan import INT32_MAX, Clock
from hpjax.schedules.registry import SCHEDULES

_Placed = tuple[str, Any, Any, dict[str, Any], bool]
_WARMUP_PARAMS = ("warmup_shape", "warmup_start_factor")


def create(
    schedule: str,
    *,
    peak: Scalar = 1.0,
    total_steps: Scalar,
    warmup: Scalar | str = 0,
    of: str = "learning_rate",
    **params: Any,
) -> Callable[[Scalar], jax.Array]:
    """Returns a schedule as `step -> value`, for use in jit, vmap, scan and with Optax.

    The names: constant, step, multistep, exponential, inverse_time, linear, polynomial, rex, wsd, inverse_sqrt, noam,
    cosine, cosine_restarts, cyclic, onecycle; `plateau` stays at the peak, as it needs a metric. A text joins several:
    `"linear(start_factor=0.1,end_factor=1):10%, constant:50%, cosine"`.

    Their settings, one vocabulary for all, factors being of the peak:
      start_factor, end_factor: where a schedule starts and ends.
      gamma, step_size, milestones: what a drop multiplies by, steps between drops, steps of drops.
      decay_steps, decay_rate, staircase: of exponential (`gamma ** (t / decay_steps)`) and inverse_time.
      power, rex_beta: shapes of polynomial and rex. decay_length, decay_shape (linear, sqrt, cosine): end of wsd.
      ramp_steps, noam_width: rise of inverse_sqrt and noam, and noam's d_model.
      cycle_length, cycle_mult, cycle_decay: of cosine_restarts.
      step_size_up, step_size_down, cycle_mode (triangular, triangular2, exp_range): of cyclic.
      pct_start, div_factor, final_div_factor, three_phase, anneal (cosine, linear): of onecycle.
      momentum_low: the lowest momentum of cyclic and onecycle, as a factor of the highest.
      warmup_shape (linear, cosine, exponential), warmup_start_factor: of the warmup.

    Args:
      schedule: a name, or a text as `--schedule` takes it.
      peak: scalar that all factors multiply.
      total_steps: updates of the run, warmup included.
      warmup: updates of the warmup.
      of: "learning_rate", or "momentum" for the momentum that cyclic and onecycle cycle, whose highest value is `peak`.
      **params: settings of the schedule, for all parts of a list that take them. Numbers may be traced. Lengths are updates,
        or texts (`500`, `10%`) where `total_steps` is not traced.

    Returns:
      A function of an int32 step, 0-based, that gives a float32 scalar.

    Raises:
      ConfigError: an unknown name, a parameter that no part takes or that is missing or out of its domain, lengths that do
        not fit.
    """
    if of not in ("learning_rate", "momentum"):
        raise ConfigError(f"of is '{of}'; expected learning_rate or momentum")
    parts = text.parse("schedule", schedule)
    known = [*dict.fromkeys(name for part in parts for name in SCHEDULES.settings(part.name)), *_WARMUP_PARAMS]
    for name in params:
        if name not in known:
            raise ConfigError(f"schedule '{schedule}' takes no '{name}'{listed(name, known, 'it takes:')}")
    clock = None if _is_traced(total_steps) else Clock(None, 0, _steps("total_steps", total_steps, None))
    placed = _placed(parts, params, total_steps, warmup, clock)
    momentum = of == "momentum"

    def value(step: Scalar) -> jax.Array:
        step = jnp.asarray(step).astype(jnp.int32)

        def branch(one: _Placed) -> Callable[[jax.Array], jax.Array]:
            name, start, length, settings, cycles = one
            if momentum and not cycles:
                return lambda step: jnp.float32(1.0)
            return lambda step: call(name, step - start, jnp.asarray(length, jnp.int32), settings, momentum=momentum)

        starts = jnp.stack([jnp.asarray(one[1], jnp.int32) for one in placed])
        place = jnp.sum(starts[1:] <= step, dtype=jnp.int32)
        return jnp.asarray(peak, jnp.float32) * lax.switch(place, [branch(one) for one in placed], step)

    return value


def _placed(
    parts: list[text.Part], params: dict[str, Any], total_steps: Any, warmup: Any, clock: Clock | None
) -> list[_Placed]:
    """Returns name, start, length, settings and whether it cycles the momentum, of the warmup and every part."""
    placed: list[_Placed] = []
    start = _steps("warmup", warmup, clock)
    if _is_traced(start) or start:
        shape = {name: _setting("", name, params[name], clock) for name in _WARMUP_PARAMS if name in params}
        if shape.get("warmup_shape") == number_of("warmup_shape", "exponential") and not _positive(shape):
            raise ConfigError("warmup_start_factor is 0; expected a number > 0 for warmup_shape 'exponential'")
        placed.append((WARMUP, 0, start, shape, False))
    if not _is_traced(start) and clock is not None and start > clock.whole:
        raise ConfigError(f"warmup is {warmup}, {start} steps; expected at most total_steps, {clock.whole}")
    for part in parts:
        settings = {}
        for name, default in SCHEDULES.settings(part.name).items():
            given = part.settings.get(name, params.get(name, default))
            if given is REQUIRED:
                raise ConfigError(f"{name} is not set; schedule '{part.name}' needs it")
            settings[name] = None if given is None else _setting(part.name, name, given, clock)
        length = total_steps - start if part.length is None else _steps("schedule", part.length, clock)
        traced = _is_traced(start) or clock is None
        if not traced and (start + length > clock.whole or (length < 1 and (len(parts) > 1 or part.length is not None))):  # type: ignore[union-attr]
            raise ConfigError(
                f"schedule '{part.name}' goes from step {start} to {start + length}; expected at least one step, and "
                f"at most the schedule's {clock.whole}"  # type: ignore[union-attr]
            )
        placed.append((part.name, start, length, settings, settings.get("momentum_low") is not None))
        start = start + length
    return placed


def _positive(shape: dict[str, Any]) -> bool:
    start = shape.get("warmup_start_factor", 0.0)
    return _is_traced(start) or start > 0


def _setting(part: str, name: str, value: Any, clock: Clock | None) -> Any:
    """Returns a setting's value as a number or a traced scalar; raises ConfigError where it is out of its domain."""
    if _is_traced(value):
        return value
    if name in FIELDS and is_length(name):
        if forms(part)[name] == "ints":
            values = value.split(",") if isinstance(value, str) else value
            return jnp.stack([jnp.asarray(_steps(name, one, clock), jnp.int32) for one in values]) if len(values) else ()
        steps = _steps(name, value, clock)
        if not _is_traced(steps) and steps < 1:
            raise ConfigError(f"{name} is {value}; expected at least one step")
        return steps
    return number_of(name, config.convert(name, value) if part == "" else text.value_of(part, name, value))


def _steps(name: str, value: Any, clock: Clock | None) -> Any:
    """Returns a length in steps; a traced one as it is."""
    if _is_traced(value):
        return value
    if isinstance(value, str) and clock is None:
        raise ConfigError(f"{name} is '{value}'; expected steps as a whole number where total_steps is traced")
    if isinstance(value, str):
        return clock.steps(name, value)  # type: ignore[union-attr]
    if isinstance(value, bool) or int(value) != value or not 0 <= value <= INT32_MAX:
        raise ConfigError(f"{name} is {value!r}; expected a whole number of steps in [0, 2^31)")
    return int(value)


def _is_traced(value: Any) -> bool:
    return isinstance(value, jax.Array)
