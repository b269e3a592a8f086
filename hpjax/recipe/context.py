"""What the steps of the recipe are given, and what they share."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpjax import resolve
from hpjax.config import Config
from hpjax.data import Dataset
from hpjax.recipe.budget import COMPILING, NEEDS, UNIT
from hpjax.runfolder import RunFolder

STATE = "recipe.json"
"""What a recipe that was interrupted goes on from: decisions that were made once, and the time that was used."""


class Memory:
    """Values that are decided once and kept in the recipe's folder: a resume makes the same recipe."""

    def __init__(self, folder: RunFolder):
        """Takes up what the folder holds."""
        self._folder = folder
        path = folder.path / STATE
        self._values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def once(self, name: str, decide: Callable[[], Any]) -> Any:
        """Returns the value of a name: what was decided before, else what `decide` gives now; JSON values."""
        if name not in self._values:
            self.set(name, decide())
        return self._values[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Returns a value, or the default where there is none."""
        return self._values.get(name, default)

    def set(self, name: str, value: Any) -> None:
        """Keeps a value."""
        self._values[name] = value
        self._folder.write(STATE, json.dumps(self._values))


class Clock:
    """The recipe's budget: seconds of all its sittings together."""

    def __init__(self, budget: float, used: float = 0.0, now: Callable[[], float] = time.monotonic):
        """Begins a sitting.

        Args:
          budget: seconds in all.
          used: seconds that earlier sittings took.
          now: returns seconds.
        """
        self.budget = budget
        self._now = now
        self._zero = now() - used

    @property
    def used(self) -> float:
        """Seconds used so far."""
        return self._now() - self._zero

    @property
    def left(self) -> float:
        """Seconds left; not below 0."""
        return max(self.budget - self.used, 0.0)


@dataclasses.dataclass
class Context:
    """What a step is given.

    Attributes:
      config: the config, resolved, with the settings that earlier steps have chosen.
      dataset: its data.
      vary: what the search varies, by setting; empty: the optimizer's default space.
      seeds: trials of each setting that is confirmed.
      clock: the budget.
      folder: the recipe's folder.
      memory: decisions that were made once.
      say: shows a line.
      asked: the config before any step chose something; None for `config`.
      given: `config` before its defaults were filled in, which the studies' trials differ from: where a seed, a batch size
        or an optimizer varies, what follows from it does, too. None for `config`.
      deadline: the second of the clock by which the step at hand should have ended.
      unit: seconds for which a program compiles here.
    """

    config: Config
    dataset: Dataset
    vary: dict[str, str]
    seeds: int
    clock: Clock
    folder: RunFolder
    memory: Memory
    say: Callable[[str], None]
    asked: Config | None = None
    given: Config | None = None
    deadline: float = math.inf
    unit: float = UNIT

    @property
    def base(self) -> Config:
        """The config that the studies' trials differ from."""
        return self.given or self.config

    def choose(self, settings: Mapping[str, str]) -> None:
        """Takes what a step has chosen; not a batch size, for what is given in steps means those of the config's own."""
        self.given = self.base.replace(**{name: text for name, text in settings.items() if name != "batch_size"})
        self.config = resolve.resolve(self.given)

    @property
    def late(self) -> bool:
        """Whether the step at hand has had its time."""
        return self.clock.used > self.deadline

    @property
    def too_late(self) -> bool:
        """Whether no more than the report's time is left of the whole budget."""
        return self.clock.left < NEEDS["report"].units * self.unit

    @property
    def time(self) -> float:
        """Seconds that the step at hand has left; not below 0, infinite without a deadline."""
        return max(self.deadline - self.clock.used, 0.0)

    def compiled(self, since: float) -> None:
        """Notes that a study has compiled its programs since a second of the clock: it may take longer than was thought."""
        self.unit = max(self.unit, (self.clock.used - since) / COMPILING)

    @property
    def path(self) -> Path:
        """The recipe's folder."""
        return self.folder.path


def first_fold(dataset: Dataset, folds: int | None) -> Dataset:
    """Returns the data of the first fold as those of a run without folds, which the short runs are: its rows stand apart.

    Args:
      dataset: of that fold, see `Dataset.folded`; without folds it stays as it is.
      folds: how many there are; None: none.
    """
    if folds is None:
        return dataset
    train, size = dataset.splits["train"][1], dataset.splits["val"][1]
    order = np.concatenate([np.arange(size, size + train), np.arange(size), np.arange(size + train, len(dataset.y))])
    x = dataset.x if dataset.task == "language" else dataset.x[order]
    return dataclasses.replace(dataset, x=x, y=dataset.y[order], splits={**dataset.splits, "val": (train, size)})


def plain(config: Config, steps: int, **changes: Any) -> Config:
    """Returns a resolved config's short run at a constant rate, without anything that regularises or schedules.

    Args:
      config: a resolved config.
      steps: its length.
      **changes: further settings.
    """
    off: dict[str, Any] = {
        name: 0.0
        for name in ("dropout_rate", "stochastic_depth_rate", "weight_decay", "l2", "l1", "label_smoothing")
        if getattr(config, name, None) is not None
    }
    off |= dict.fromkeys(("mixup_alpha", "sam_rho", "ema_decay", "folds"))
    off |= {f"{quantity}_schedule": None for quantity in ("weight_decay", "momentum", "batch_size")}
    text = f"{steps}steps"
    return config.replace(
        **off,
        augment=(),
        fold=0,
        schedule="constant",
        warmup="0steps",
        train_steps=text,
        schedule_steps=text,
        eval_every=text,
        **changes,
    )
