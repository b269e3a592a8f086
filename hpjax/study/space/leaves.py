"""Sampled coordinates: what one call of `log`, `uniform`, `int`, `choice`, `grid` or `range` draws from [0, 1)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

from hpjax.errors import ConfigError, did_you_mean
from hpjax.study.space.source import shown

Kind = Literal["log", "uniform", "int", "choice", "grid"]
BELOW_1 = 1 - 2.0**-53
"""The largest number below 1."""

_DIGITS = 15
"""Significant digits of evenly spaced values: 0.001, not 0.0009999999999999998."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One sampled coordinate.

    Attributes:
      setting: the setting in whose expression it stands.
      kind: `log`, `uniform`, `int` (`range(n)` too), `choice` or `grid`.
      low: its lowest value; None of a choice.
      high: its highest value; None of a choice.
      count: number of its values; None if it is continuous.
      values: the values of a choice or grid, in the order given; empty of another.
      most: the largest value that is drawn, where `high` is no value of the setting; else None.
    """

    setting: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    count: int | None = None
    values: tuple[Any, ...] = ()
    most: float | None = None

    def value(self, u: float) -> Any:
        """Returns the value at a place.

        Args:
          u: in [0, 1); 1 is taken as the number just below. Discrete values have cells of one width, 1 / count.

        Returns:
          A float of `log` and `uniform`, an int of `int`, one of `values` of `choice` and `grid`.

        Raises:
          ValueError: u lies outside.
        """
        if not 0 <= u <= 1:
            raise ValueError(f"a place in the unit cube is {u!r}; expected a number in [0, 1)")
        u = min(float(u), BELOW_1)
        if self.count is not None:
            return self.at(min(int(u * self.count), self.count - 1))
        low, high = self._bounds()
        # exp(log low + u (log high - log low)), and low itself at 0.
        log = self.kind == "log"
        value = low * math.exp(u * (math.log(high) - math.log(low))) if log else low + u * (high - low)
        return min(max(value, low), high if self.most is None else self.most)

    def at(self, index: int) -> Any:
        """Returns the value of a discrete leaf's cell `index`, from 0."""
        if self.values:
            return self.values[index]
        low, high = self._bounds()
        if self.kind == "int":
            return int(low) + index
        last = (self.count or 0) - 1
        if index in (0, last):
            return low if index == 0 else high
        share = index / last
        if self.kind == "log":
            value = math.exp((1 - share) * math.log(low) + share * math.log(high))
        else:
            value = (low * (last - index) + high * index) / last
        return min(max(float(f"{value:.{_DIGITS}g}"), low), high)

    def unit(self, value: Any) -> float:
        """Returns the place of a value: the inverse of `value`; the cell's centre of a discrete leaf.

        Raises:
          ConfigError: the leaf does not have this value.
        """
        if self.count is None:
            return self._continuous(value)
        index = self._index(value)
        if index is None:
            near = (
                did_you_mean(value, [one for one in self.values if isinstance(one, str)]) if isinstance(value, str) else ""
            )
            raise ConfigError(f"{self.setting} is {shown(value)}; expected {self}{near}")
        return (index + 0.5) / self.count

    def __str__(self) -> str:
        if self.values:
            return f"one of {', '.join(str(v) if isinstance(v, str) else shown(v) for v in self.values)}"
        low, high = self._bounds()
        what = (
            "a whole number" if self.kind == "int" else "a number" if self.count is None else f"one of {self.count} numbers"
        )
        return f"{what} in [{shown(low)}, {shown(high)}]"

    def _bounds(self) -> tuple[float, float]:
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def _continuous(self, value: Any) -> float:
        low, high = self._bounds()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ConfigError(f"{self.setting} is {shown(value)}; expected {self}")
        if self.kind == "log":
            low, high, value = math.log(low), math.log(high), math.log(value)
        # The logarithms of neighbours may be one number.
        u = (value - low) / (high - low) if high > low else 0.0
        return min(max(u, 0.0), BELOW_1)

    def _index(self, value: Any) -> int | None:
        """Returns the cell of a discrete leaf's value, or None."""
        if self.values:
            return next((index for index, one in enumerate(self.values) if same(one, value)), None)
        low, high = self._bounds()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            return None
        if self.kind == "int":
            return int(value - low) if value == int(value) else None
        share = math.log(value / low) / math.log(high / low) if self.kind == "log" else (value - low) / (high - low)
        index = round(share * ((self.count or 0) - 1))
        return index if self.at(index) == value else None


def twice(values: Sequence[Any]) -> int | None:
    """Returns the index of the first value that was there before, or None."""
    seen: set[tuple[bool, Any]] = set()
    for index, value in enumerate(values):
        if (isinstance(value, bool), value) in seen:
            return index
        seen.add((isinstance(value, bool), value))
    return None


def same(one: Any, other: Any) -> bool:
    """Returns whether two values are the same value of a setting: to Python, 1 and True are equal."""
    return one == other and isinstance(one, bool) is isinstance(other, bool)
