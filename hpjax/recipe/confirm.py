"""Step 8: the best few settings, trained in full with several seeds; the winner by its mean, with the interval."""

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping
from typing import Any

from hpjax import resolve
from hpjax.config import to_text
from hpjax.recipe.context import Context
from hpjax.recipe.finding import Finding, Note
from hpjax.recipe.search import good, load
from hpjax.study.axes import text_of
from hpjax.study.folder import BEST
from hpjax.study.study import Study, run_sweep
from hpjax.study.summary import difference

MOST_SETTINGS = 4
ENQUEUED = "confirm.json"


def confirm(context: Context, name: str, found: Mapping[str, Any], rate: float) -> Finding:
    """Returns which of the best settings is best over several seeds at full length, and whether that can be told.

    Args:
      context: the recipe.
      name: the step whose study has the settings.
      found: its facts.
      rate: trial-steps a second that all lanes make.
    """
    searched = load(context, name)
    full = resolve.lengths(context.config, context.dataset.splits["train"][1])[0].train_steps
    # Two thirds of what is left: the report and a slower machine want their share.
    affordable = int(rate * context.clock.left * 2 / 3 / (full * context.seeds)) if math.isfinite(rate) else MOST_SETTINGS
    number = context.memory.once("confirm_settings", lambda: max(min(MOST_SETTINGS, affordable), 2))
    settings = good(searched)[:number]
    context.folder.write(ENQUEUED, json.dumps([one.values for one in settings]))
    vary = {**found["space"], "seed": f"range({context.seeds})"}
    config = context.config.replace(run_dir=None, overwrite=False, resume=True)
    study = run_sweep(
        config,
        vary,
        trials=len(settings) * context.seeds,
        sampler="random",
        enqueue=str(context.path / ENQUEUED),
        study=str(context.path / "confirm"),
    )
    return _finding(context, study, found)


def _finding(context: Context, study: Study, found: Mapping[str, Any]) -> Finding:
    best, objective = study.best, study.objective
    tables = {"trials": study.columns()}
    if best is None:
        note = Note(
            "confirm",
            "failed",
            "every trial of the best settings diverged at full length",
            "warmup, clipping (--clip_norm=1), or a lower learning rate",
        )
        return Finding("confirm", (note,), stops=True, tables=tables)
    of = {one.setting: [study.records[n].objective for n in one.numbers] for one in study.settings_tried}
    values = of[best.setting]
    words = ", ".join(f"{setting}={text_of(setting, value)}" for setting, value in best.values.items())
    spread = f", standard deviation {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    notes = [Note("winner", "ok", f"{objective.name} {best.value:.4g}{spread} over {len(values)} seeds: {words}")]
    facts: dict[str, Any] = {"best": dataclasses.asdict(best), "objective": objective.name, "values": values}
    others = [one for one in study.settings_tried if one.setting != best.setting and math.isfinite(one.value)]
    if others:
        second = max(others, key=lambda one: objective.score(one.value))
        gap = difference(values, of[second.setting], objective)
        facts |= {"second": dataclasses.asdict(second), "difference": list(gap)}
        ends = f"95 % interval of the difference to the second: {gap.low:.2g} to {gap.high:.2g}"
        told = f"better beyond seed noise ({ends})" if gap.low > 0 else f"no difference beyond seed noise ({ends})"
        notes.append(Note("told_apart", "ok", told))
    before = found.get("best", {}).get("value", math.nan)
    if math.isfinite(before):
        shrunk = (before - best.value) * (1 if objective.maximise else -1)
        facts["optimism"] = shrunk
        by = f"better than it repeats by {shrunk:.2g}, as the best of many is" if shrunk > 0 else "it repeats"
        notes.append(Note("optimism", "ok", f"the search's best was {before:.4g}: {by}"))
    if test := study.facts.get("test"):
        facts["test"] = test
        figures = ", ".join(f"{name} {value:.4g}" for name, value in test.items())
        notes.append(Note("test", "ok", f"test split, read once with the winner: {figures}"))
    if (study.path / BEST).exists():
        context.folder.write(BEST, (study.path / BEST).read_text())
    settings = {setting: to_text(setting, value) for setting, value in best.values.items()}
    advice = f"python -m hpjax.train --flagfile={context.path / BEST} trains the winner again"
    return Finding("confirm", tuple(notes), settings=settings, advice=advice, tables=tables, facts=facts)
