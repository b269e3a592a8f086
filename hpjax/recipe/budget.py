"""The deadline plan: what each step may take, so that all of them and the report end within the budget.

It is made anew before each step, from what is left: what a step did not need is the later ones', what it took too much is
taken from all of them. How fast the machine is, under whatever load, is what the first step took.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hpjax.recipe.finding import Finding, Note

UNIT = 1.5
"""Seconds that compiling a program is taken for before anything was measured."""


class Need(NamedTuple):
    """What a step needs.

    Attributes:
      units: what it takes at least, in multiples of the time for which a program compiles here.
      weight: its share of what is left when every step has what it takes at least.
    """

    units: float
    weight: float


NEEDS = {
    "initial": Need(3, 0),
    "report": Need(1.2, 4),
    "lr": Need(2.5, 8),
    "coarse": Need(4, 24),
    "curves": Need(0.1, 0),
    "confirm": Need(5, 38),
    "overfit": Need(2.5, 3),
    "refine": Need(4, 22),
    "gradient": Need(2.5, 2),
    "batch": Need(6, 4),
}
"""By step, and of the report; the first are the last to be left out. Measured on digits on a machine that others used."""
COMPILING = 2.0
"""Units that a study compiles for before its first trial begins."""
ESSENTIAL = ("initial", "report", "lr", "coarse", "curves", "confirm", "overfit")
"""What is made before anything else is thought of."""
WISHES = ("confirm", "coarse")
"""Steps that may wish for more, in their order: two whole runs, and enough trials to choose from."""
MEASURES = ("initial", "gradient")
"""Steps that do nothing that a deadline could end: what they took says what a unit takes."""


def planned(
    step: str, remaining: Sequence[str], left: float, unit: float, wished: Mapping[str, float] | None = None
) -> float | None:
    """Returns the seconds that a step may take, or None where it is to be left out.

    Args:
      step: the step; the first of those that remain.
      remaining: the steps that are still to be made.
      left: seconds that are left of the budget, the report's included.
      unit: seconds for which a program compiles.
      wished: seconds beyond what it takes at least that one of `WISHES` should have before what matters less has any; the
        confirmation all of them or none.
    """
    free = left
    least: dict[str, float] = {}
    here = [name for name in NEEDS if name in remaining or name == "report"]
    for names, wishes in ((ESSENTIAL, wished or {}), (tuple(NEEDS), {})):
        for name in (one for one in here if one in names and one not in least):
            seconds = NEEDS[name].units * unit
            if seconds > free:
                # What is left is better spent on what matters more than on what matters less and happens to fit.
                break
            least[name] = seconds
            free -= seconds
        for name in (one for one in WISHES if one in wishes and one in least):
            more = min(wishes[name], free) if name != "confirm" or wishes[name] <= free else 0.0
            least[name] += more
            free -= more
    if step not in least:
        return None
    weights = sum(NEEDS[name].weight for name in least)
    return least[step] + (free * NEEDS[step].weight / weights if weights else 0.0)


def unit_of(step: str, seconds: float, unit: float) -> float:
    """Returns what a unit takes after a step took so many seconds; before, `unit` (`UNIT` where nothing was measured)."""
    if step not in MEASURES:
        return unit
    found = seconds / NEEDS[step].units
    return found if unit == UNIT else max(found, unit)


def left_out(step: str, why: str) -> Finding:
    """Returns the finding of a step that was not made."""
    note = Note("left_out", "warning", f"left out: {why}", "a larger --budget; the same command then goes on with it")
    return Finding(step, (note,), facts={"left_out": True})


def no_time(step: str, left: float, unit: float) -> str:
    """Returns why a step is left out that does not fit."""
    need = NEEDS[step].units * unit
    return f"{left:.0f} s of the budget were left, for it (about {need:.0f} s), what matters more, and the report"
