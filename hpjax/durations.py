"""Lengths of training with units: `500`, `500steps`, `3epochs`, `40000examples`, `10%`; one converter to optimizer steps."""

import math
import re
from fractions import Fraction
from typing import NamedTuple

from hpjax.errors import ConfigError, listed

UNITS = ("steps", "epochs", "examples", "%")
_SYNTAX = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z%]*)")


class Duration(NamedTuple):
    """A length: an exact amount of one of `UNITS`."""

    amount: Fraction
    unit: str


def parse(text: str) -> Duration:
    """Returns the duration that `text` spells; a bare number is steps.

    Raises:
      ConfigError: the text is no number with a unit, or steps and examples are not whole.
    """
    match = _SYNTAX.fullmatch(text.strip().lower())
    if not match:
        raise ConfigError(f"'{text}' is no length; expected for example 500, 500steps, 3epochs, 40000examples or 10%")
    amount, unit = Fraction(match[1]), match[2] or "steps"
    unit = unit if unit in UNITS or unit + "s" not in UNITS else unit + "s"
    if unit not in UNITS:
        raise ConfigError(f"'{text}': unit '{unit}' is unknown{listed(unit, UNITS)}")
    if unit in ("steps", "examples") and amount.denominator != 1:
        raise ConfigError(f"'{text}': expected a whole number of {unit}")
    return Duration(amount, unit)


def to_steps(text: str, *, batch_size: int, epoch_examples: int, whole: int | None = None) -> int:
    """Returns a length in optimizer steps.

    Args:
      text: the length, as `parse` takes it.
      batch_size: examples a step.
      epoch_examples: examples in an epoch.
      whole: steps that `%` is a share of; None where a share has no meaning.

    Returns:
      Steps; a length that is not a whole number of steps is rounded up, a share to the nearest step, and a share that
      is not zero gives at least one.

    Raises:
      ConfigError: the text is no length, or a share where none has a meaning.
    """
    amount, unit = parse(text)
    if unit == "steps":
        return int(amount)
    if unit == "%":
        if whole is None:
            raise ConfigError(f"'{text}': a share needs something to be a share of; expected steps, epochs or examples")
        share = amount * whole / 100
        return max(math.floor(share + Fraction(1, 2)), 1 if amount else 0)
    examples = amount * (epoch_examples if unit == "epochs" else 1)
    return math.ceil(examples / batch_size)


_TIME = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|sec|min|m|h)")
_SECONDS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}


def is_time(text: str) -> bool:
    """Returns whether a text is a time that is not 0: `90s`, `10min` or `2h`."""
    return _TIME.fullmatch(text.strip().lower()) is not None and seconds(text) > 0


def seconds(text: str) -> float:
    """Returns a time in seconds; raises ConfigError where the text is none."""
    match = _TIME.fullmatch(text.strip().lower())
    if not match:
        raise ConfigError(f"'{text}' is no time; expected for example 90s, 10min or 2h")
    return float(match[1]) * _SECONDS[match[2]]
