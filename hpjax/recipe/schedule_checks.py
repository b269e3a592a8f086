"""The learning rate's schedule over the whole run: whether it leaves most of the run without a rate to speak of."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from hpjax import resolve, schedules, scheduling
from hpjax.config import Config
from hpjax.recipe.finding import Note

POINTS = 200
LOW, MOST = 0.02, 0.6
"""A share of the peak that is next to nothing, and the share of a run that may be spent below it."""


def schedule_notes(config: Config, train_size: int) -> Iterator[Note]:
    """Yields what is noticed about a resolved config's schedule."""
    lengths, _ = resolve.lengths(config, train_size)
    values = resolve.traced(config, lengths)
    extra = schedules.plugins(scheduling.names(config))
    steps = np.unique(np.linspace(0, lengths.train_steps - 1, POINTS).astype(np.int32))

    def factor(step: jax.Array) -> jax.Array:
        return schedules.factors(jnp.full(len(schedules.QUANTITIES), step), values, 1.0, extra)[0]

    factors = np.asarray(jax.vmap(factor)(jnp.asarray(steps)))
    peak = float(factors.max())
    low = float(np.mean(factors < LOW * peak)) if peak > 0 else 1.0
    if low > MOST:
        last = int(steps[np.flatnonzero(factors >= LOW * peak)[-1]]) if peak > 0 else 0
        seen = f"schedule '{config.schedule}' is below {LOW:.0%} of its peak for {low:.0%} of the run, from step {last} on"
        yield Note(
            "decays_too_early", "warning", seen, "a schedule as long as the run (--schedule_steps), or a slower decay"
        )
    else:
        yield Note(
            "schedule", "ok", f"schedule '{config.schedule}': {1 - low:.0%} of the run at more than {LOW:.0%} of its peak"
        )
