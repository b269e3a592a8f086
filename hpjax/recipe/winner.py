"""What is to be said of a winner: whether it can be told from the second, what it gains, how optimistic the search was."""

import dataclasses
import math
import statistics
from collections.abc import Mapping
from typing import Any

from hpjax.recipe.asked import asked_values
from hpjax.recipe.context import Context
from hpjax.recipe.finding import Note
from hpjax.study.axes import text_of
from hpjax.study.records import SettingSummary
from hpjax.study.study import Study
from hpjax.study.summary import difference


def compared(
    study: Study, best: SettingSummary, found: Mapping[str, Any], steps: int, context: Context
) -> tuple[list[Note], dict[str, Any]]:
    """Returns what is to be said of the winner, and the numbers behind it."""
    objective = study.objective
    of = {one.setting: [study.records[n].objective for n in one.numbers] for one in study.settings_tried}
    values = of[best.setting]
    words = ", ".join(f"{setting}={text_of(setting, value)}" for setting, value in best.values.items())
    spread = f", standard deviation {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    notes = [Note("winner", "ok", f"{objective.name} {best.value:.4g}{spread} over {seeds_text(len(values))}: {words}")]
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
        notes.append(Note("test", "ok", f"test split, read once with the winner's {seeds_text(len(tests))}: {figures}"))
    return notes, facts


def seeds_text(number: int) -> str:
    """Returns `1 seed`, `4 seeds`."""
    return f"{number} seed{'' if number == 1 else 's'}"


def _over_seeds(name: str, values: list[float]) -> str:
    """Returns a number's mean over seeds with its ends: `test/accuracy 0.976 (0.971 to 0.98)`."""
    return f"{name} {statistics.fmean(values):.4g} ({min(values):.4g} to {max(values):.4g})"
