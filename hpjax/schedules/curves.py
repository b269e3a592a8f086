"""The curves of a config's schedules, and the small table of their values."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hpjax import build, durations, inert, resolve, scheduling
from hpjax.config import FIELDS, Config
from hpjax.schedules import text
from hpjax.schedules.forms import WARMUP, is_length
from hpjax.schedules.plan import INT32_MAX
from hpjax.schedules.table import QUANTITIES, factors, pack

MOST_POINTS = 2_048
"""Steps at which a curve is looked up, always as many, so that one program serves all."""
SPREAD = 1_920
"""Of these, those that are spread evenly over a long run."""


class Curves(NamedTuple):
    """What schedules do over a run.

    Attributes:
      steps: int64 [points], rising from 0 to the run's last step.
      values: float64 [points] by quantity: the learning rate, and what else is scheduled.
      warmup_steps: steps of the warmup.
      notes: what a person should be told.
    """

    steps: np.ndarray
    values: dict[str, np.ndarray]
    warmup_steps: int
    notes: list[str]


def curves(config: Config, epoch_examples: int | None = None) -> Curves:
    """Returns the curves of a config that need not be resolved.

    Args:
      config: the settings.
      epoch_examples: examples in an epoch; None: the data set's, which is loaded where a length is in epochs.

    Raises:
      ConfigError: settings that cannot be run.
      DataError: the data set is needed, and missing.
    """
    inert.check_warmup(config)
    config = resolve.resolve(config)
    if epoch_examples is None:
        epoch_examples = build.load(config).splits["train"][1] if _in_epochs(config) else INT32_MAX
    length, notes = resolve.lengths(config, epoch_examples)
    plans = length.schedules
    peaks = {
        "learning_rate": resolve.learning_rate(config),
        "weight_decay": config.weight_decay,
        "batch_size": config.batch_size,
    }
    peaks["momentum"] = next(iter(scheduling.momenta(config).values()), None)
    steps = _points(length.train_steps, [segment.start for segments in plans.values() for segment in segments])
    found = np.asarray(_factors(np.pad(steps.astype(np.int32), (0, MOST_POINTS - len(steps))), pack(plans)), np.float64)
    shown = [quantity for quantity in QUANTITIES if plans.get(quantity)]
    # A weight decay of 0 would hide its schedule.
    values = {quantity: (peaks[quantity] or 1.0) * found[: len(steps), QUANTITIES.index(quantity)] for quantity in shown}
    notes += [f"the {quantity} is {peaks[quantity]}: its factor is shown" for quantity in shown if not peaks[quantity]]
    if any(segment.name == "plateau" for segment in plans["learning_rate"]):
        notes.append("plateau drops when the validation metric stops improving; it is drawn as if it never did")
    warmup = plans["learning_rate"][0]
    return Curves(steps, values, warmup.length if warmup.name == WARMUP else 0, notes)


@jax.jit
def _factors(steps: jax.Array, values: dict[str, jax.Array]) -> jax.Array:
    times = jnp.broadcast_to(steps[:, None], (MOST_POINTS, len(QUANTITIES)))
    return jax.vmap(factors, (0, None))(times, values)


def table(found: Curves) -> list[tuple[str, int, list[float]]]:
    """Returns rows of the small table: what, at which step, and each quantity's value there."""
    last = int(found.steps[-1])
    places = [("start", 0), ("25 %", last // 4), ("50 %", last // 2), ("75 %", 3 * last // 4), ("end", last)]
    if found.warmup_steps:
        places.append(("warmed up", min(found.warmup_steps, last + 1) - 1))
    rows = [(what, *_at(found, step)) for what, step in sorted(places, key=lambda place: place[1])]
    learning_rate = found.values["learning_rate"]
    for what, index in (("highest", np.argmax(learning_rate)), ("lowest", np.argmin(learning_rate))):
        rows.append((what, int(found.steps[index]), [float(values[index]) for values in found.values.values()]))
    return rows


def _at(found: Curves, step: int) -> tuple[int, list[float]]:
    index = int(np.searchsorted(found.steps, step))
    return int(found.steps[index]), [float(values[index]) for values in found.values.values()]


def _points(steps: int, starts: list[int]) -> np.ndarray:
    """Returns the steps to look up: evenly spread ones, those of the table, and the edges of every segment."""
    last = steps - 1
    spread = np.round(np.linspace(0, last, min(steps, SPREAD))).astype(np.int64)
    quarters = [last // 4, last // 2, 3 * last // 4]
    edges = [edge for start in starts for edge in (start - 1, start)]
    return np.unique(np.clip([*spread, *quarters, *edges], 0, last))


def _in_epochs(config: Config) -> bool:
    """Returns whether a length that steps are made of is in epochs."""
    lengths: list[str | None] = [config.train_steps, config.warmup, config.schedule_steps]
    for setting in filter(is_length, FIELDS):
        value = getattr(config, setting)
        # When to look does not change the curves, but has to be turned into steps with them.
        lengths += value if isinstance(value, tuple) else [value]
    for flag in scheduling.SCHEDULED:
        for part in text.parse(flag, getattr(config, flag) or "constant"):
            inside = [value for setting, value in part.settings.items() if is_length(setting)]
            lengths += [part.length, *(one for value in inside for one in (value if isinstance(value, tuple) else [value]))]
    return any(durations.parse(str(length)).unit == "epochs" for length in lengths if length is not None)
