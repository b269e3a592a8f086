"""Steps 6 and 7: a coarse search with short runs, and a finer one with longer runs around what it found."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from hpjax import resolve
from hpjax.config import to_text
from hpjax.errors import ConfigError
from hpjax.recipe.context import Context
from hpjax.recipe.finder import worth_trying
from hpjax.recipe.finding import Finding, Note
from hpjax.recipe.space import default_space, narrowed
from hpjax.study.axes import text_of
from hpjax.study.records import ENDED, SettingSummary
from hpjax.study.space import Space
from hpjax.study.study import Study, load_study, run_sweep

EVALUATIONS = 6
"""Of each trial."""
LEAST_TRIALS, MOST_TRIALS = 8, 1024
COARSE_EPOCHS = 5
"""Most epochs of a coarse trial."""
STOPPED_SHARE = 0.5
"""Of a trial's whole length that it runs for on average under the scheduler; a guess, for the deadline ends the search."""
GOOD = 0.25
"""Share of the settings that is the good region."""
FEW = 4


def coarse(context: Context, lr: Mapping[str, Any] | None, share: float) -> Finding:
    """Returns what a search with short runs found.

    Args:
      context: the recipe.
      lr: facts of the learning rate finder, or None.
      share: seconds that it may take.
    """
    space = context.memory.once("coarse_space", lambda: context.vary or _first_space(context, lr))
    steps = context.memory.once("coarse_steps", lambda: _coarse_steps(context))
    return _search(context, "coarse", space, steps, share, "halton", lr)


def refine(context: Context, found: Mapping[str, Any], lr: Mapping[str, Any] | None, share: float) -> Finding:
    """Returns what a search with longer runs found in the narrowed space; `found` are the facts of the coarse one."""
    study = load(context, "coarse")
    best = study.best
    if best is None:
        raise ConfigError("the coarse search has no setting with a value")
    space = context.memory.once("refine_space", lambda: narrowed(found["space"], good(study), best, context.config))
    full = resolve.lengths(context.config, context.dataset.splits["train"][1])[0].train_steps
    affordable = int(_rate(context, lr) * share / (LEAST_TRIALS * 2 * STOPPED_SHARE))
    steps = context.memory.once("refine_steps", lambda: max(min(full, affordable), int(found["steps"])))
    return _search(context, "refine", space, min(int(steps), full), share, "tpe", lr)


def load(context: Context, step: str) -> Study:
    """Returns the study of a step, as far as it has come."""
    return load_study(context.path / step)


def good(study: Study) -> list[SettingSummary]:
    """Returns the best quarter of a study's settings, at least a few."""
    tried = [one for one in study.settings_tried if math.isfinite(one.value)]
    tried.sort(key=lambda one: (-study.objective.score(one.value), one.setting))
    return tried[: max(math.ceil(GOOD * len(tried)), FEW)]


def _first_space(context: Context, lr: Mapping[str, Any] | None) -> dict[str, str]:
    if lr is None:
        rate = float(context.config.learning_rate or 1e-3)
        return default_space(context.config, rate / 30, rate * 10)
    return default_space(context.config, *worth_trying(lr))


def _coarse_steps(context: Context) -> int:
    size = context.dataset.splits["train"][1]
    full = resolve.lengths(context.config, size)[0].train_steps
    epoch = -(-size // context.config.batch_size)
    return max(min(full // 4, COARSE_EPOCHS * epoch), min(full, 30))


def _rate(context: Context, lr: Mapping[str, Any] | None) -> float:
    """Returns trial-steps a second of all lanes, as the finder measured it; a cautious guess without it."""
    rate = math.nan if lr is None else float(lr["trial_steps_per_second"])
    return rate if math.isfinite(rate) else 100.0


def _search(
    context: Context,
    name: str,
    space: Mapping[str, str],
    steps: int,
    seconds: float,
    sampler: str,
    lr: Mapping[str, Any] | None,
) -> Finding:
    trials = context.memory.once(f"{name}_trials", lambda: _trials(_rate(context, lr), seconds, steps))
    deadline = context.clock.used + seconds
    text = f"{steps}steps"
    config = context.config.replace(
        train_steps=text,
        schedule_steps=text,
        eval_every=f"{max(steps // EVALUATIONS, 1)}steps",
        checkpoint_every=text,
        run_dir=None,
        overwrite=False,
        resume=True,
    )

    def late(study: Study) -> bool:
        # A budget that the compiler uses up alone would end in nothing.
        return context.clock.used > deadline and sum(one.status in ENDED for one in study.records) >= LEAST_TRIALS

    study = run_sweep(
        config, dict(space), callback=late, trials=trials, sampler=sampler, scheduler="asha", study=str(context.path / name)
    )
    return _finding(name, study, dict(space), steps, trials)


def _trials(rate: float, seconds: float, steps: int) -> int:
    return max(LEAST_TRIALS, min(MOST_TRIALS, int(rate * seconds / (steps * STOPPED_SHARE))))


def _finding(name: str, study: Study, space: dict[str, str], steps: int, trials: int) -> Finding:
    ended = [record for record in study.records if record.status in ENDED]
    diverged = sum(record.status == "diverged" for record in ended)
    tables = {"trials": study.columns()}
    facts: dict[str, Any] = {"space": space, "steps": steps, "trials": len(ended), "diverged": diverged}
    best = study.best
    words = f"{len(ended)} of {trials} trials of {steps} steps, {diverged} diverged"
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
    values = ", ".join(f"{setting}={text_of(setting, value)}" for setting, value in best.values.items())
    notes = [Note("search", "ok", f"{words}; best {study.objective.name} {best.value:.4g}: {values}")]
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
