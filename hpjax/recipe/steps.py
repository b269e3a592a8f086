"""The steps of the recipe by name: what each does, what it goes on from, what it wishes for.

Each imports its own module when it runs: a recipe of one step loads no more than that.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from hpjax.errors import ConfigError
from hpjax.recipe.context import Context
from hpjax.recipe.finding import Finding

GOES_ON_FROM = {"refine": ("coarse",), "confirm": ("refine", "coarse"), "curves": ("confirm", "refine", "coarse")}
"""Steps, and those of which one must come before."""

Findings = Mapping[str, Finding]
Step = Callable[[Context, Findings], Finding]


def _initial(context: Context, _: Findings) -> Finding:
    from hpjax.recipe.initial import initial

    return initial(context)


def _gradient(context: Context, _: Findings) -> Finding:
    from hpjax.recipe.gradient import gradient

    return gradient(context)


def _overfit(context: Context, _: Findings) -> Finding:
    from hpjax.recipe.overfit import overfit

    return overfit(context)


def _lr(context: Context, _: Findings) -> Finding:
    from hpjax.recipe.finder import finder

    return finder(context)


def _batch(context: Context, findings: Findings) -> Finding:
    from hpjax.recipe.batch import batch

    return batch(context, facts_of(findings, "lr"))


def _coarse(context: Context, findings: Findings) -> Finding:
    from hpjax.recipe.search import coarse

    return coarse(context, facts_of(findings, "lr"))


def _refine(context: Context, findings: Findings) -> Finding:
    from hpjax.recipe.search import refine

    return refine(context, findings[before("refine", findings)].facts, facts_of(findings, "lr"))


def _confirm(context: Context, findings: Findings) -> Finding:
    from hpjax.recipe.confirm import confirm
    from hpjax.recipe.search import known_rate

    name = before("confirm", findings)
    found = findings[name].facts
    return confirm(context, name, found, known_rate(found, facts_of(findings, "lr")))


def _curves(context: Context, findings: Findings) -> Finding:
    from hpjax.recipe.curves import curves

    chance = (facts_of(findings, "initial") or {}).get("chance", math.nan)
    return curves(context, before("curves", findings), float(chance))


MADE: dict[str, Step] = {
    "initial": _initial,
    "gradient": _gradient,
    "overfit": _overfit,
    "lr": _lr,
    "batch": _batch,
    "coarse": _coarse,
    "refine": _refine,
    "confirm": _confirm,
    "curves": _curves,
}
WHAT = {
    "initial": "the loss before training against chance, the data, every layer",
    "gradient": "gradients against central differences in float64",
    "overfit": "a few examples, learned by heart",
    "lr": "which learning rates bring the loss down",
    "batch": "examples a second by batch size, and how noisy the gradient is",
    "coarse": "a search with short runs",
    "refine": "a search with longer runs around the good region",
    "confirm": "the best few settings with several seeds, in full",
    "curves": "what the learning curves say",
}


def facts_of(findings: Findings, step: str) -> Mapping[str, Any] | None:
    """Returns a step's facts; None where it was not made."""
    return findings[step].facts if step in findings and not findings[step].left_out else None


def before(step: str, findings: Findings) -> str:
    """Returns the step that another goes on from: the first that found something."""
    for before in GOES_ON_FROM[step]:
        if before in findings and "best" in findings[before].facts:
            return before
    last = GOES_ON_FROM[step][-1]
    raise ConfigError(f"step '{step}' goes on from '{last}', which was not made; expected --steps={last},{step}")


def wishes(context: Context, findings: Findings) -> dict[str, float]:
    """Returns the seconds of training that steps should have at least, as far as the steps so far tell.

    Without two whole runs no winner is a winner, without some trials there is nothing to choose from.
    """
    from hpjax.recipe import asked, confirm, search

    known = [facts_of(findings, step) for step in ("refine", "coarse", "lr")]
    if not any(known):
        return {}
    rate, full = search.known_rate(*known), asked.full_length(context)
    trials = search.WANTED_TRIALS * search.STOPPED_SHARE * search.least_steps(full)
    return {"confirm": 2 * full / (confirm.SAFE * rate), "coarse": trials / rate}


def lacking(step: str, findings: Findings) -> str | None:
    """Returns the step that another goes on from, where it was made and found nothing to go on from; else None."""
    before = [name for name in GOES_ON_FROM.get(step, ()) if name in findings]
    found = any("best" in findings[name].facts for name in before)
    return before[-1] if before and not found else None
