"""Where the marks of a log axis stand, and how numbers are written: few, round, and short enough for a phone."""

import math

LEAST, MOST = 3, 8
"""Marks of an axis."""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_WITHIN = (((1, 2, 5), 6), ((1, 3), 6), ((1,), MOST), ((1, 1.5, 2, 3, 5, 7), 6))
"""Of a decade, what is liked best first, and up to how many marks: powers of ten are the shortest."""


def log_ticks(low: float, high: float) -> list[float]:
    """Returns the places of a log axis' marks within its ends, from 3 to 8."""
    low, high = min(low, high), max(low, high)
    if high < 3 * low:
        return _even(low, high)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for within, most in _WITHIN:
        every = [digit * 10.0**power for power in range(first, last + 1) for digit in within]
        found = [one for one in every if low * 0.9999 <= one <= high * 1.0001]
        if LEAST <= len(found) <= most:
            return found
    decades = [10.0**power for power in range(math.ceil(math.log10(low) - 1e-9), last + 1) if 10.0**power <= high * 1.0001]
    return decades[:: -(-len(decades) // MOST)]


def _even(low: float, high: float) -> list[float]:
    """Returns round numbers at equal distances."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-12 * high)))
    step = next(part for part in (step, step / 2, step / 5, step / 10) if (high - low) / part >= 3)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def rounded(value: float, digits: int = 2) -> str:
    """Returns a number with so many digits that count, in a few characters."""
    return short(float(f"{value:.{digits}g}"))


def short(value: float) -> str:
    """Returns a number in a few characters: `0.003`, `10⁻⁵`, `3·10⁻⁵`, `20,000`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    power = math.floor(math.log10(abs(value)) + 1e-9)
    digits = f"{value / 10.0**power:.3g}"
    raised = "10" + str(power).translate(_RAISED)
    return raised if digits == "1" else f"{digits}·{raised}"
