"""Steps 6 and 7: a coarse search with short runs, and a finer one with longer runs around what it found."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpjax.config import to_text
from hpjax.errors import ConfigError
from hpjax.recipe import budget
from hpjax.recipe.asked import asked_values, full_length, replicas, warmup_share
from hpjax.recipe.context import Context
from hpjax.recipe.finder import worth_trying
from hpjax.recipe.finding import Finding, Note
from hpjax.recipe.space import default_space, narrowed
from hpjax.recipe.winner import settings_text
from hpjax.study import closing
from hpjax.study.begin import study_config
from hpjax.study.records import ENDED, SettingSummary
from hpjax.study.runner import ENOUGH
from hpjax.study.space import Space
from hpjax.study.study import Study, load_study, run

EVALUATIONS = 6
"""Of each trial."""
LEAST_TRIALS, MOST_TRIALS = 8, 1024
WANTED_TRIALS = 40
"""Trials that the coarse search should have; where the time is too short for so many, they are shorter."""
COARSE_EPOCHS = 5
"""Most epochs of a coarse trial."""
STOPPED_SHARE = 0.5
"""Of a trial's whole length that it runs for on average under the scheduler; a guess, for the deadline ends the search."""
GOOD = 0.25
"""Share of the settings that is the good region."""
FEW = 4
REGULARISE, LONG = ("weight_decay", "dropout_rate"), 0.5
"""Settings that pay in long runs only, for short ones would choose none, and the share of a whole run that is long."""
BEST_FIRST = 3
"""Of the coarse search's best settings that the finer one tries first."""


def coarse(context: Context, lr: Mapping[str, Any] | None) -> Finding:
    """Returns what a search with short runs found; it begins with the settings that the config has.

    Args:
      context: the recipe.
      lr: facts of the learning rate finder, or None.
    """
    rate = known_rate(lr)
    steps = context.memory.once("coarse_steps", lambda: _coarse_steps(context, rate))
    space = context.memory.once("coarse_space", lambda: context.vary or _first_space(context, lr, steps))
    return _search(context, "coarse", space, steps, "halton", rate, [asked_values(context, space)])


def refine(context: Context, found: Mapping[str, Any], lr: Mapping[str, Any] | None) -> Finding:
    """Returns what a search with longer runs found in the narrowed space; `found` are the facts of the coarse one."""
    study = load(context, "coarse")
    best = study.best
    if best is None:
        raise ConfigError("the coarse search has no setting with a value")
    full, rate = full_length(context), known_rate(found, lr)
    affordable = int(rate * _training(context) / (LEAST_TRIALS * 2 * STOPPED_SHARE))
    steps = context.memory.once("refine_steps", lambda: max(min(full, affordable), int(found["steps"])))
    # What the coarse search's runs were too short for is searched here.
    wide = found["space"] if context.vary else {**_first_space(context, lr, steps), **found["space"]}
    space = context.memory.once("refine_space", lambda: narrowed(wide, good(study), best, context.config))
    first = [{**asked_values(context, space), **one.values} for one in good(study)[:BEST_FIRST]]
    # A dropout of 0, which a setting that is left out would have, is another program.
    first = [values for values in first if not set(space) - set(values)]
    return _search(context, "refine", space, min(int(steps), full), "tpe", rate, first)


def known_rate(*facts: Mapping[str, Any] | None) -> float:
    """Returns trial-steps a second of all lanes as the first of some steps measured it; a cautious guess without one."""
    rates = [float(one.get("trial_steps_per_second", math.nan)) for one in facts if one is not None]
    return next((rate for rate in rates if math.isfinite(rate)), 100.0)


def measured_rate(study: Study) -> float:
    """Returns trial-steps a second of all lanes in a study, evaluations included; NaN where nothing was trained."""
    made = [record for record in study.records if record.curve and math.isfinite(record.ended)]
    if not made:
        return math.nan
    seconds = max(record.ended for record in made) - min(record.began for record in made)
    return sum(record.curve[-1].step for record in made) / seconds if seconds > 0 else math.nan


def load(context: Context, step: str) -> Study:
    """Returns the study of a step, as far as it has come."""
    return load_study(context.path / step)


def good(study: Study) -> list[SettingSummary]:
    """Returns the best quarter of a study's settings, at least a few."""
    tried = [one for one in study.settings_tried if math.isfinite(one.value)]
    tried.sort(key=lambda one: (-study.objective.score(one.value), one.setting))
    return tried[: max(math.ceil(GOOD * len(tried)), FEW)]


def _first_space(context: Context, lr: Mapping[str, Any] | None, steps: int) -> dict[str, str]:
    """Returns the default space of runs of so many steps; without what regularises where they are a part of a whole run."""
    full, config = full_length(context), context.config
    epochs = full * config.batch_size / context.dataset.splits["train"][1]
    rate = float(config.learning_rate or 1e-3)
    ends = (rate / 30, rate * 10) if lr is None else worth_trying(lr)
    space = default_space(config, *ends, epochs)
    return {name: text for name, text in space.items() if steps >= LONG * full or name not in REGULARISE}


def _coarse_steps(context: Context, rate: float) -> int:
    """Returns the length of a coarse trial: an epoch or a few, less where the time is too short for many of them."""
    full = full_length(context)
    epoch = -(-context.dataset.splits["train"][1] // context.config.batch_size)
    most = max(min(full // 4, COARSE_EPOCHS * epoch), min(full, 30))
    affordable = int(rate * _training(context) / (WANTED_TRIALS * STOPPED_SHARE))
    return max(min(most, affordable), min(most, least_steps(full)))


def least_steps(full: int) -> int:
    """Returns the length of the shortest coarse trial, of a whole run's."""
    return max(full // 20, 30)


def _training(context: Context) -> float:
    """Returns the seconds that a search has for training."""
    return max(context.time - budget.COMPILING * context.unit, 0.0)


def _search(
    context: Context,
    name: str,
    space: Mapping[str, str],
    steps: int,
    sampler: str,
    rate: float,
    first: Sequence[Mapping[str, Any]],
) -> Finding:
    known = [dict(one) for one in first if one]
    # Each with the seeds and folds that are searched over.
    least = max(LEAST_TRIALS, max(len(known), 1) * replicas(context.base, space))
    trials = context.memory.once(f"{name}_trials", lambda: max(_trials(rate, _training(context), steps), least))
    text = f"{steps}steps"
    config = context.base.replace(
        train_steps=text,
        schedule_steps=text,
        eval_every=f"{max(steps // EVALUATIONS, 1)}steps",
        checkpoint_every=text,
        **({} if "warmup" in space else {"warmup": warmup_share(context)}),
        run_dir=None,
        overwrite=False,
        resume=True,
    )
    settings: dict[str, Any] = {"trials": trials, "sampler": sampler, "scheduler": "asha", "study": str(context.path / name)}
    if known:
        settings["enqueue"] = str(context.path / f"{name}.json")
        context.folder.write(f"{name}.json", json.dumps(known))

    begun = [context.clock.used]

    def late(study: Study) -> Any:
        # The first look comes when the programs are compiled.
        while begun:
            context.compiled(begun.pop())
        seen = sum(bool(record.curve) for record in study.records)
        # A time that the compiler takes up alone would end in nothing: then what is left for later steps is taken.
        return ENOUGH if context.late and (seen >= LEAST_TRIALS or context.too_late) else None

    close = functools.partial(closing.brief, test=False)
    study = run(config, study_config(dict(space), settings), callback=late, close=close)
    return _finding(name, study, dict(space), steps, trials)


def _trials(rate: float, seconds: float, steps: int) -> int:
    return max(LEAST_TRIALS, min(MOST_TRIALS, int(rate * seconds / (steps * STOPPED_SHARE))))


def _finding(name: str, study: Study, space: dict[str, str], steps: int, trials: int) -> Finding:
    ended = [record for record in study.records if record.status in ENDED]
    diverged = sum(record.status == "diverged" for record in ended)
    tables = {"trials": study.columns()}
    facts: dict[str, Any] = {"space": space, "steps": steps, "trials": len(ended), "diverged": diverged}
    facts["trial_steps_per_second"] = measured_rate(study)
    best = study.best
    words = f"{len(ended)} of {trials} trials of {steps} steps, {diverged} diverged"
    if best is None and diverged < len(ended):
        seen = f"{words}: the time was over before a trial was evaluated"
        note = Note("search", "warning", seen, "a larger --budget, a smaller model, or a shorter --train_steps")
        return Finding(name, (note,), tables=tables, facts=facts)
    if best is None:
        note = Note(
            "search", "failed", f"{words}: no setting has a value", "lower learning rates, or look at the steps before"
        )
        return Finding(
            name,
            (note,),
            advice="without a setting that trains there is nothing to choose",
            stops=True,
            tables=tables,
            facts=facts,
        )
    notes = [Note("search", "ok", f"{words}; best {study.objective.name} {best.value:.4g}: {settings_text(best)}")]
    edges = Space.parse(study.settings.vary, study.config).edges(best.values, [one.values for one in study.settings_tried])
    if edges:
        seen = f"the best sits at the edge of what was searched: {', '.join(edges)}"
        # The finer search looks beyond it.
        last = name != "coarse"
        notes.append(Note("edge", "warning" if last else "ok", seen, "search wider there: --vary" if last else ""))
    if diverged > 0.5 * len(ended):
        notes.append(
            Note(
                "infeasible",
                "warning",
                f"{diverged} of {len(ended)} trials diverged",
                "a lower upper end of the learning rate, warmup, or clipping (--clip_norm=1)",
            )
        )
    facts |= {"best": dataclasses.asdict(best), "objective": study.objective.name, "edges": edges}
    settings = {setting: to_text(setting, value) for setting, value in best.values.items()}
    advice = (
        "the finer search looks around the best quarter"
        if name == "coarse"
        else "the best few are trained again with several seeds"
    )
    return Finding(name, tuple(notes), settings=settings, advice=advice, tables=tables, facts=facts)
