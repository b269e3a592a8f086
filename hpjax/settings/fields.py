"""What a setting is: a field of a frozen dataclass with a help text and a domain."""

import dataclasses
import typing
from collections.abc import Callable, Sequence
from typing import Any

from hpjax.errors import did_you_mean

# A length with a unit ("500", "3epochs"); `durations` explains them.
Length = typing.NewType("Length", str)

# Texts that hold commas: a flag given several times, one text each.
Lines = typing.NewType("Lines", tuple)  # type: ignore[valid-newtype]

Domain = tuple[Callable[[Any], bool], str]
# Traced values are float32: what rounds to 0, 1 or infinity there is out of a domain that excludes it.
_FLOAT32_MIN, _FLOAT32_MAX = 2.0**-126, (2 - 2.0**-23) * 2.0**127
POSITIVE: Domain = (lambda v: _FLOAT32_MIN <= v <= _FLOAT32_MAX, "a finite number > 0 (float32: 1.2e-38 to 3.4e38)")
NOT_NEGATIVE: Domain = (lambda v: 0 <= v <= _FLOAT32_MAX, "a finite number >= 0 (float32: at most 3.4e38)")
FINITE: Domain = (lambda v: -_FLOAT32_MAX <= v <= _FLOAT32_MAX, "a finite number (float32: at most 3.4e38)")
FRACTION: Domain = (lambda v: 0 <= v < 1 - 2**-25, "a number in [0, 1), as float32")
SHARE: Domain = (lambda v: 0 <= v <= 1, "a number in [0, 1]")
AT_LEAST_0: Domain = (lambda v: 0 <= v < 2**31, "a whole number in [0, 2^31)")
AT_LEAST_1: Domain = (lambda v: 1 <= v < 2**31, "a whole number in [1, 2^31)")
AT_LEAST_2: Domain = (lambda v: 2 <= v < 2**31, "a whole number in [2, 2^31)")
SEED: Domain = (lambda v: 0 <= v < 2**32, "a whole number in [0, 2^32)")
SIZES: Domain = (lambda v: all(1 <= size < 2**31 for size in v), "whole numbers >= 1, separated by commas, or none")


def choice(*names: str) -> Domain:
    """Returns the domain of a setting that is one of a few words."""
    return (lambda v: v in names, "one of " + ", ".join(names))


def choices(domain: Domain | None) -> tuple[str, ...]:
    """Returns the words of a domain that `choice` made; empty for another."""
    words = "" if domain is None else domain[1]
    return tuple(words.removeprefix("one of ").split(", ")) if words.startswith("one of ") else ()


def some_of(names: Sequence[str]) -> Domain:
    """Returns the domain of a setting that is some of a few words, one at least."""
    return (lambda v: bool(v) and set(v) <= set(names), "some of " + ", ".join(names))


def nearest(domain: Domain, value: Any) -> str:
    """Returns `; did you mean 'x'?` for the first word of a value that is none of a domain's, or an empty string."""
    if isinstance(value, str):
        return did_you_mean(value, choices(domain))
    words = domain[1].removeprefix("some of ").split(", ") if domain[1].startswith("some of ") else ()
    return next((did_you_mean(word, words) for word in value if word not in words), "") if words else ""


def counted(*words: str) -> Domain:
    """Returns the domain of a setting that is one of a few words or a whole number >= 1."""
    return (lambda v: v in words or (v.isdecimal() and int(v) >= 1), f"{' or '.join(words)} or a whole number >= 1")


def setting(default: Any, help: str, domain: Domain | None = None, *, main: bool = False) -> Any:
    """Returns the field of a setting.

    Args:
      default: its value where none is given; None leaves it to the part that uses it.
      help: a line for `--help`.
      domain: what it may be, beyond its type.
      main: whether `--help` shows it, and not only `--helpfull`.
    """
    return dataclasses.field(default=default, metadata={"help": help, "domain": domain, "main": main})
