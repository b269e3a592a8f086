"""Other optimizers than the chosen one in the learning rate finder: which ones, and whether one is clearly better."""

import math
from collections.abc import Mapping

import numpy as np

from hpjax import optimizers, resolve
from hpjax.config import FIELDS, Config
from hpjax.errors import ConfigError
from hpjax.recipe.finding import Note, Table
from hpjax.recipe.range_test import RangeTest

KINDS = (
    ("adamw", "adam", "nadam", "nadamw", "adamax", "amsgrad", "radam", "schedule_free_adamw"),
    ("momentum", "nesterov", "sgd", "schedule_free_sgd"),
    ("lars",),
    ("lamb",),
)
"""Kinds of optimizers that do much the same in a few steps; the first of each is the one that is tried."""
MOST = 3
"""Others that are tried."""
CLEARLY = 1.1
"""Times the chosen optimizer's gain, what the loss falls by, that another must gain to be clearly better."""


def compared_with(config: Config) -> dict[str, Config]:
    """Returns other optimizers by name, each with the config that has it, resolved; its own settings at their defaults.

    Args:
      config: a resolved config.
    """
    found: dict[str, Config] = {}
    for kind in KINDS:
        if config.optimizer not in kind and len(found) < MOST:
            try:
                found[kind[0]] = _with(config, kind[0])
            except ConfigError:
                # Settings of a part of a person's own may go with the chosen optimizer only.
                continue
    return found


def _with(config: Config, name: str) -> Config:
    """Returns a config with another optimizer: what both have stays, what only the old one has goes."""
    has = optimizers.OPTIMIZERS.settings(name)
    # Betas and epsilon mean another thing for each.
    common = {"weight_decay", "l1", "l2", "clip_value", "clip_layer_norm", "clip_norm", "moment_dtype"}
    owned = [setting for setting in optimizers.OPTIMIZERS.settings(config.optimizer) if setting in FIELDS]
    changed = {setting: None for setting in owned if not (setting in common and setting in has)}
    return resolve.resolve(config.replace(optimizer=name, momentum_schedule=None, momentum_low=None, **changed))


def compared(tests: Mapping[str, RangeTest]) -> Table:
    """Returns a row for each optimizer: what its range test suggests, and from which rate on it is unstable."""
    names = ("best", "loss", "steps", "steepest", "minimum_tenth", "largest_stable", "unstable")
    facts = [one.facts() for one in tests.values()]
    return {"optimizer": list(tests), **{name: [one[name] for one in facts] for name in names}}


def better_than(tests: Mapping[str, RangeTest]) -> Note | None:
    """Returns whether another optimizer than the first came clearly lower in as many steps; None without another."""
    (name, own), *others = tests.items()
    if not others:
        return None
    rows = []
    for other, test in others:
        # One that had less time is compared at the step to which it came.
        looks = min(test.looks, own.looks)
        ends = test.ends(looks)
        best = int(np.argmin(ends))
        mine = min(own.ends(looks))
        rows.append((ends[best], other, test.rates[best], looks * own.every, mine))
    lowest, other, rate, steps, mine = min(rows, key=lambda row: row[0] - row[4])
    words = ", ".join(f"{row[1]} {row[0]:.3g} at {row[2]:.2g}" for row in rows)
    seen = f"other optimizers at their best rates after as many steps ({name}: {mine:.3g}): {words}"
    if math.isfinite(lowest) and own.before - lowest > CLEARLY * (own.before - mine):
        seen += f"; {other} comes clearly lower in {steps} steps"
        return Note("optimizer", "warning", seen, f"--optimizer={other} --learning_rate={rate:.2g}, and this recipe again")
    return Note("optimizer", "ok", f"{seen}; none comes clearly lower")
