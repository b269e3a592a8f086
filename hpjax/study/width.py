"""How many lanes run together on an accelerator: widths are doubled until memory ends or nothing is gained."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

GAIN = 1.1
"""Times the best rate so far that a wider program must reach to be worth its memory."""
PATIENCE = 2
"""Widths in a row without a gain after which no wider one is tried: a first step may lose what the next ones gain."""
SHARE = 0.8
"""The share of a device's memory that a study may plan with; the rest is for evaluation, copies and fragments."""


class Choice(NamedTuple):
    """A lane width, and a line that says why."""

    width: int
    reason: str


def choose(
    widths: Iterable[int],
    least: Callable[[int], int],
    compiled: Callable[[int], int],
    rate: Callable[[int], float],
    limit: int | None,
) -> Choice:
    """Returns the lane width to take; each width is asked for its shapes first, then compiled, then measured.

    Args:
      widths: what may be taken, rising; the first is taken whatever it costs.
      least: bytes that a width needs at least, by the shapes of its arrays.
      compiled: bytes that it needs by the compiler's analysis; raises MemoryError if it does not fit.
      rate: lane-ticks a second; raises MemoryError likewise. Asked after `compiled` only.
      limit: bytes of the device; None where that is not known.
    """
    room = None if limit is None else int(limit * SHARE)
    rates: dict[int, float] = {}
    best = without = 0
    end = "all that the trials or lanes allow were tried"
    for width in widths:
        try:
            for bytes_of in (least, compiled):
                needed = bytes_of(width)
                if room is not None and needed > room and rates:
                    raise MemoryError(f"{width} would need {_gigabytes(needed)} of {_gigabytes(room)}")
            rates[width] = rate(width)
        except MemoryError as error:
            if not rates:
                raise
            end = str(error) or f"{width} does not fit into memory"
            break
        if not best or rates[width] > GAIN * rates[best]:
            best, without = width, 0
            continue
        without += 1
        if without == PATIENCE:
            end = f"no gain of {GAIN - 1:.0%} beyond"
            break
    measured = ", ".join(f"{width}: {found:.4g}" for width, found in rates.items())
    return Choice(best, f"lane_width {best} was measured (lane-ticks/s by width: {measured}; {end})")


def doubled(most: int, lanes: int | None = None) -> Sequence[int]:
    """Returns the widths 1, 2, 4, ... up to `most`, of a given number of lanes those that divide it."""
    widths = [1 << i for i in range(max(most, 1).bit_length())]
    return [width for width in widths if lanes is None or lanes % width == 0]


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.3g} GB"
