"""What is to be said of a winner: whether it can be told from the second, what it gains, how optimistic the search was."""

import dataclasses
import math
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpjax.recipe.asked import asked_values
from hpjax.recipe.context import Context
from hpjax.recipe.finding import Note
from hpjax.study.axes import text_of
from hpjax.study.records import SettingSummary
from hpjax.study.study import Study
from hpjax.study.summary import difference

DRAWS = 2000
"""Of the bootstrap."""


def compared(
    study: Study, best: SettingSummary, found: Mapping[str, Any], steps: int, context: Context
) -> tuple[list[Note], dict[str, Any]]:
    """Returns what is to be said of the winner, and the numbers behind it."""
    objective = study.objective
    of = {one.setting: [study.records[n].objective for n in one.numbers] for one in study.settings_tried}
    values = of[best.setting]
    runs = _runs_text(len(values), len({study.records[number].values.get("seed") for number in best.numbers}))
    spread = f", standard deviation {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    notes = [Note("winner", "ok", f"{objective.name} {best.value:.4g}{spread} over {runs}: {settings_text(best)}")]
    facts: dict[str, Any] = {"best": dataclasses.asdict(best), "objective": objective.name, "values": values}
    others = [
        one
        for one in study.settings_tried
        if one.setting != best.setting and one.status == best.status and math.isfinite(one.value)
    ]
    if others:
        second = max(others, key=lambda one: objective.score(one.value))
        gap = difference(values, of[second.setting], objective)
        facts |= {"second": dataclasses.asdict(second), "difference": list(gap)}
        ends = f"95 % interval of the difference to the second: {gap.low:.2g} to {gap.high:.2g}"
        told = f"better beyond seed noise ({ends})" if gap.low > 0 else f"no difference beyond seed noise ({ends})"
        if not math.isfinite(gap.low):
            told = f"better than the second by {gap.value:.2g}; with one seed each nobody knows whether that is noise"
        notes.append(Note("told_apart", "ok", told))
    by_setting = [of[one.setting] for one in (best, *others)]
    if others and len({len(one) for one in by_setting}) == 1 and len(values) > 1:
        facts["best_of"] = gain = best_of_means(np.array(by_setting) * (1 if objective.maximise else -1))
        seen = f"the best of {len(by_setting)} means looks better than it is, by {max(gain, 0.0):.2g} or more"
        notes.append(Note("best_of", "ok", f"{seen} (bootstrap over the seeds)"))
    asked = asked_values(context, {name: "" for name in best.values})
    for before in (one for one in others if one.values == asked):
        gap = difference(values, of[before.setting], objective)
        facts["asked"] = {"value": before.value, "difference": list(gap)}
        said = f"the settings that the config had: {before.value:.4g}; the winner is better by {gap.value:.2g}"
        interval = f" (95 % interval {gap.low:.2g} to {gap.high:.2g})" if math.isfinite(gap.low) else ""
        notes.append(Note("asked", "ok", f"{said}{interval}"))
    searched = found.get("best", {}).get("value", math.nan)
    # Of shorter runs it says nothing.
    if math.isfinite(searched) and found["steps"] == steps:
        shrunk = (searched - best.value) * (1 if objective.maximise else -1)
        facts["optimism"] = shrunk
        by = f"better than it repeats by {shrunk:.2g}, as the best of many is" if shrunk > 0 else "it repeats"
        notes.append(Note("optimism", "ok", f"the search's best was {searched:.4g}: {by}"))
    if study.facts.get("test"):
        tests = [study.facts["test_of_trials"][number] for number in sorted(study.facts["test_of_trials"], key=int)]
        facts |= {"test": study.facts["test"], "test_by_seed": tests}
        figures = ", ".join(_over_seeds(name, [one.get(name, math.nan) for one in tests]) for name in tests[0])
        notes.append(Note("test", "ok", f"test split, read once with the winner's {runs}: {figures}"))
    return notes, facts


def best_of_means(scores: np.ndarray) -> float:
    """Returns by how much the best of some settings' means is expected to be too good, for it was chosen by these runs.

    Each setting's runs are drawn again with replacement, and the best is chosen anew: by how much its mean is then above
    that of all its runs, on average. It is a lower bound: settings that chance has set apart are taken to be apart.

    Args:
      scores: of the runs, [settings, runs]; more is better.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 17.
    """
    settings, runs = scores.shape
    drawn = np.random.default_rng(0).integers(runs, size=(DRAWS, settings, runs))
    means = np.take_along_axis(scores[None], drawn, axis=2).mean(axis=2)
    first = means.argmax(axis=1)
    return float((means[np.arange(DRAWS), first] - scores.mean(axis=1)[first]).mean())


def seeds_text(number: int) -> str:
    """Returns `1 seed`, `4 seeds`."""
    return f"{number} seed{'' if number == 1 else 's'}"


def settings_text(one: SettingSummary) -> str:
    """Returns `learning_rate=0.01, momentum=0.9`."""
    return ", ".join(f"{name}={text_of(name, value)}" for name, value in one.values.items()) or "as it was configured"


def _runs_text(runs: int, seeds: int) -> str:
    """Returns `4 seeds`; with folds `4 seeds (12 runs)`."""
    return seeds_text(seeds) + ("" if runs == seeds else f" ({runs} runs)")


def _over_seeds(name: str, values: list[float]) -> str:
    """Returns a number's mean over seeds with its ends: `test/accuracy 0.976 (0.971 to 0.98)`."""
    return f"{name} {statistics.fmean(values):.4g} ({min(values):.4g} to {max(values):.4g})"
