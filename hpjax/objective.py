"""What 'best' means: one metric of one split, its direction, and which value of a run counts."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from hpjax.errors import ConfigError, listed

SMOOTHED_OVER = 5
"""Evaluations whose mean is the smoothed value."""


class Evaluation(NamedTuple):
    """The objective's value at an evaluation."""

    tick: int
    value: float


@dataclasses.dataclass(frozen=True)
class Objective:
    """`split/metric:max|min` with best, last or smoothed value.

    Attributes:
      name: the metric as it is logged, `val/accuracy` for example.
      maximise: whether more is better.
      value: best, last or smoothed.
    """

    name: str
    maximise: bool
    value: str

    @classmethod
    def parse(cls, text: str, value: str, measured: Sequence[str]) -> "Objective":
        """Returns the objective that `text` spells.

        Args:
          text: `split/metric:max` or `:min`.
          value: best, last or smoothed.
          measured: what is measured, `val/loss` for example.

        Raises:
          ConfigError: not of that form, or the split or metric is unknown.
        """
        name, _, direction = text.partition(":")
        if name.startswith("test/"):
            raise ConfigError(f"objective is '{text}'; expected a val metric: test is read once, at the end")
        if name not in measured:
            raise ConfigError(f"objective is '{text}'{listed(name, measured, 'expected one of')}")
        if direction not in ("max", "min"):
            raise ConfigError(f"objective is '{text}'; expected {name}:max or {name}:min")
        return cls(name, direction == "max", value)

    def score(self, value: float) -> float:
        """Returns the value so that more is better; NaN is the worst."""
        if math.isnan(value):
            return -math.inf
        return value if self.maximise else -value

    def best(self, evaluations: Sequence[Evaluation]) -> Evaluation | None:
        """Returns the first evaluation that no other beats, or None if there is none."""
        return max(evaluations, key=lambda e: (self.score(e.value), -e.tick), default=None)

    def of_run(self, evaluations: Sequence[Evaluation]) -> float:
        """Returns the run's objective: its best, last or smoothed value; NaN if there was no evaluation."""
        if not evaluations:
            return math.nan
        if self.value == "best":
            return self.best(evaluations).value  # type: ignore[union-attr]
        newest = evaluations[-SMOOTHED_OVER:] if self.value == "smoothed" else evaluations[-1:]
        return sum(e.value for e in newest) / len(newest)

    def chosen_tick(self, evaluations: Sequence[Evaluation]) -> int | None:
        """Returns the tick whose parameters the objective stands for: the best evaluation's, else the last's."""
        if not evaluations:
            return None
        return self.best(evaluations).tick if self.value == "best" else evaluations[-1].tick  # type: ignore[union-attr]
