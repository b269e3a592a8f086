"""Step 8: the best few settings, trained in full with several seeds; the winner by its mean, with the interval."""

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from hpjax import flags
from hpjax.config import to_text
from hpjax.recipe import budget
from hpjax.recipe.asked import asked_values, full_length, replicas
from hpjax.recipe.context import Context
from hpjax.recipe.finding import Finding, Note
from hpjax.recipe.search import good, load
from hpjax.recipe.winner import compared, seeds_text
from hpjax.study import closing
from hpjax.study.begin import study_config
from hpjax.study.folder import BEST
from hpjax.study.runner import ENOUGH
from hpjax.study.study import Study, run

MOST_SETTINGS = 4
ENQUEUED = "confirm.json"
CLOSING = 1.5
"""Units that reading the test split takes."""
SAFE = 0.8
"""Share of its time that is planned with: a machine that others use is not always as fast as it was."""
SHORT = 0.75
"""Share of a whole run below which one seed in full says more than two."""
SHORTEST = 0.25
"""Share of a whole run below which a confirmation would say nothing of it."""


class Size(NamedTuple):
    """How much is confirmed: `settings` settings, each with `seeds` seeds, for so many `steps`."""

    settings: int
    seeds: int
    steps: int


def confirm(context: Context, name: str, found: Mapping[str, Any], rate: float) -> Finding:
    """Returns which of the best settings is best over several seeds at full length, and whether that can be told.

    Where the time is too short it takes fewer settings, then fewer seeds, then shorter runs, and says so. One seed in full
    is preferred to two of much shorter runs: what is best depends on the length.

    Args:
      context: the recipe.
      name: the step whose study has the settings.
      found: its facts.
      rate: trial-steps a second that all lanes make.
    """
    full = full_length(context)
    seconds = SAFE * max(context.time - (budget.COMPILING + CLOSING) * context.unit, 0.0)
    # Each seed is trained on all folds, and with all data seeds.
    folds = replicas(context.base, {one: text for one, text in found["space"].items() if one != "seed"})
    decided = context.memory.once(
        "confirm_size", lambda: affordable(rate / folds, seconds, full, context.seeds, int(found["steps"]))
    )
    if decided is None:
        why = f"{context.time:.0f} s were left for it, and two runs of {full} steps take {2 * full * folds / rate:.0f} s"
        return budget.left_out("confirm", why)
    context.memory.set("confirm_size", decided)
    size = Size(*decided)
    settings = _settings(context, load(context, name), found["space"], size.settings)
    context.folder.write(ENQUEUED, json.dumps(settings))
    text = f"{size.steps}steps"
    shorter = {} if size.steps == full else {"train_steps": text, "schedule_steps": text}
    trials = len(settings) * size.seeds * folds
    config = context.base.replace(
        run_dir=None,
        overwrite=False,
        resume=True,
        # Each seed of the winner reads the test split.
        keep_best=max(context.config.keep_best, trials),
        **shorter,
    )
    asked = study_config(
        {**found["space"], "seed": f"range({size.seeds})"},
        {
            "trials": trials,
            "sampler": "random",
            "enqueue": str(context.path / ENQUEUED),
            "study": str(context.path / "confirm"),
        },
    )
    begun = [context.clock.used]

    def late(study: Study) -> Any:
        while begun:
            context.compiled(begun.pop())
        return ENOUGH if context.time < CLOSING * context.unit else None

    study = run(config, asked, callback=late, close=functools.partial(closing.brief, test=True))
    return _finding(context, study, found, size, full, trials)


def affordable(rate: float, seconds: float, full: int, seeds: int, least: int) -> Size | None:
    """Returns how much can be confirmed in some seconds; None where it would be too little to say anything.

    Args:
      rate: trial-steps a second of all lanes together.
      seconds: what there is.
      full: steps of a whole run.
      seeds: trials of each setting that are wanted.
      least: steps below which the search has said as much.
    """
    devices = len(jax.devices())
    for settings, some in ((MOST_SETTINGS, seeds), (3, seeds), (2, seeds), (2, max(seeds // 2, 2)), (2, 2)):
        rounds = -(-settings * some // devices)
        if rounds * devices * full <= rate * seconds:
            return Size(settings, some, full)
    for some, least_share in ((2, SHORT), (1, 1.0), (1, SHORTEST)):
        rounds = -(-2 * some // devices)
        steps = min(int(rate * seconds / (rounds * devices)), full)
        if steps >= max(least, least_share * full):
            return Size(2, some, steps)
    return None


def _settings(context: Context, searched: Study, space: Mapping[str, str], number: int) -> list[dict[str, Any]]:
    """Returns the best settings of a search; of more than two the last gives way to what the config had."""
    best = [one.values for one in good(searched)[:number]]
    asked = asked_values(context, space)
    if not asked or asked in best or number < 3:
        return best
    return [*best[: number - 1], asked]


def _finding(context: Context, study: Study, found: Mapping[str, Any], size: Size, full: int, trials: int) -> Finding:
    best = study.best
    tables = {"trials": study.columns()}
    done = sum(record.status == "done" for record in study.records)
    cut = any(record.status == "stopped" for record in study.records)
    if best is None and cut:
        seen = f"not confirmed: the time was over when {done} of {trials} trials had ended, and no setting had all its seeds"
        note = Note("confirm", "warning", seen, "a larger --budget, or fewer --confirm_seeds")
        return Finding("confirm", (note,), tables=tables)
    if best is None:
        note = Note(
            "confirm",
            "failed",
            "every trial of the best settings diverged at full length",
            "warmup, clipping (--clip_norm=1), or a lower learning rate",
        )
        return Finding("confirm", (note,), stops=True, tables=tables)
    notes, facts = compared(study, best, found, size.steps, context)
    notes += _limits(size, full, cut, f"{done} of {trials}", context.seeds)
    _write_best(context, study)
    settings = {setting: to_text(setting, value) for setting, value in best.values.items()}
    advice = f"python -m hpjax.train --flagfile={context.path / BEST} trains the winner again"
    return Finding("confirm", tuple(notes), settings=settings, advice=advice, tables=tables, facts=facts)


def _limits(size: Size, full: int, cut: bool, done: str, seeds: int) -> Iterator[Note]:
    """Yields what the time was too short for."""
    remedy = "a larger --budget"
    if size.steps < full:
        seen = f"shortened: runs of {size.steps} of {full} steps, for the budget leaves no time for whole ones"
        yield Note("shortened", "warning", seen, f"{remedy}; best.flags with --train_steps={full} trains the winner in full")
    elif size.seeds < seeds:
        seen = f"{seeds_text(size.seeds)} instead of {seeds}: there was no time for more"
        yield Note("fewer_seeds", "warning", seen, remedy)
    if cut:
        yield Note("cut", "warning", f"the time was over when {done} trials had ended: the others do not count", remedy)


def _write_best(context: Context, study: Study) -> None:
    """Writes the winner's flagfile into the recipe's folder."""
    header = ["the winner of a recipe", "python -m hpjax.train --flagfile=THIS_FILE --run_dir=NEW_FOLDER"]
    config = study.best_config.replace(keep_best=context.config.keep_best)
    context.folder.write(BEST, flags.to_flagfile(config, header))
