"""The recipe: its steps one after the other, in a folder, gone on with where it was left."""

import contextlib
import dataclasses
import math
import time
from pathlib import Path
from typing import Any

from hpjax import build, devices, durations, flags, inert, resolve
from hpjax.config import TUNE_FIELDS, Config, TuneConfig, check_is_config
from hpjax.data import Dataset
from hpjax.errors import ConfigError, did_you_mean
from hpjax.ops import native
from hpjax.recipe import budget
from hpjax.recipe import steps as steps_lib
from hpjax.recipe.asked import chosen, replicas
from hpjax.recipe.context import Clock, Context, Memory, first_fold
from hpjax.recipe.finding import Finding, Verdict, worst
from hpjax.recipe.folder import FOUND, REPORT, RecipeFolder
from hpjax.recipe.search import LEAST_TRIALS
from hpjax.runfolder import FLAGS
from hpjax.runner import failure_noted, git_revision, versions
from hpjax.settings.recipe import STEPS
from hpjax.study import checks, setup
from hpjax.study.begin import study_config
from hpjax.study.folder import BEST
from hpjax.study.screen import StudyView


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What the recipe came to.

    Attributes:
      path: its folder.
      config: the config with the settings that were chosen, resolved.
      findings: what each step found, by name.
      budget: seconds that all of it was given; NaN where that is not known.
      used: those of them that were used when the report was begun.
    """

    path: Path
    config: Config
    findings: dict[str, Finding]
    budget: float = math.nan
    used: float = math.nan

    @property
    def verdict(self) -> Verdict:
        """The worst of the steps'."""
        return worst(finding.verdict for finding in self.findings.values())

    @property
    def report(self) -> Path:
        """The report's file."""
        return self.path / REPORT

    @property
    def stopped_by(self) -> str | None:
        """The step that made the rest pointless, or None."""
        return next((name for name, finding in self.findings.items() if finding.stops), None)


def run_tune(config: Config, **settings: Any) -> Tuned:
    """Finds good hyperparameters step by step; the same folder again goes on where it was.

    Args:
      config: the model, the data, and what is not to be chosen.
      **settings: of the recipe: budget ("10min"), steps, vary, confirm_seeds, study (its folder).

    Returns:
      What each step found, and the config with what was chosen.

    Raises:
      ConfigError, DataError, RunFolderError: bad settings, data or folder; before anything is trained.
      KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM; the same call goes on.
    """
    for name in settings:
        if name not in TUNE_FIELDS:
            raise ConfigError(f"setting '{name}' is unknown{did_you_mean(name, TUNE_FIELDS)}")
    return run(config, TuneConfig(**settings))


def run(config: Config, recipe: TuneConfig, begun: float | None = None) -> Tuned:
    """Runs the recipe of two configs; see `run_tune`. `begun`: when the budget began, by the monotonic clock."""
    begun = time.monotonic() if begun is None else begun
    check_is_config(config)
    # As its studies would, but before any work; they have folders of their own.
    checks.check_alone(config, "a recipe")
    checks.check(config.replace(run_dir=None))
    inert.check_warmup(config)
    resolved, recipe = (
        resolve.resolve(config),
        dataclasses.replace(recipe, steps=tuple(s for s in STEPS if s in recipe.steps)),
    )
    _check_order(recipe)
    if resolved.init_from is not None:
        raise ConfigError("init_from is set; expected a recipe from scratch (fine-tuning is searched with hpjax.sweep)")
    dataset = build.load(resolved)
    lengths, _ = resolve.lengths(resolved, dataset.splits["train"][1])
    lost = devices.configure()
    build.check_parts(resolved, dataset, resolve.traced(resolved, lengths))
    if recipe.vary:
        _check_vary(config, recipe, dataset)
    named = recipe.study or f"runs/{resolved.dataset}_{resolved.model}-tune-{time.strftime('%Y%m%d-%H%M%S')}"
    with contextlib.closing(RecipeFolder.open(named)) as folder:
        assert isinstance(folder, RecipeFolder)
        given, recipe = folder.adopt_recipe(config.replace(run_dir=None), recipe)
        resolved = resolve.resolve(given)
        _begin(folder, given, recipe)
        view = StudyView(resolved.progress)
        unused = None if config.run_dir is None else "run_dir is not used: expected --study for the recipe's folder"
        kernels = native.described(resolved.native, resolved.compute_dtype)
        for note in (lost, unused, kernels, f"recipe folder: {folder.path}"):
            if note is not None:
                view.say(note)
        memory = Memory(folder)
        # What starting up and reading the data took counts, too.
        clock = Clock(durations.seconds(recipe.budget), memory.get("used", 0.0) + time.monotonic() - begun)
        vary = dict(text.split("=", 1) for text in recipe.vary)
        data = first_fold(dataset, resolved.folds)
        context = Context(resolved, data, vary, recipe.confirm_seeds, clock, folder, memory, view.say, resolved, given)
        context.unit = memory.get("unit", budget.UNIT)
        with failure_noted(folder):
            try:
                findings = _steps(context, folder, recipe.steps)
                tuned = Tuned(folder.path, chosen(given, findings), findings, clock.budget, clock.used)
                memory.set("used", clock.used)
                _close(folder, tuned, clock, context.unit)
            except (KeyboardInterrupt, SystemExit):
                folder.update_metadata(status="preempted")
                raise
            finally:
                memory.set("used", clock.used)
    return tuned


def _check_order(recipe: TuneConfig) -> None:
    """Refuses a step without the one that it goes on from, unless the folder may hold it already."""
    if recipe.study is not None and (Path(recipe.study) / FOUND).is_dir():
        return
    for step, before in steps_lib.GOES_ON_FROM.items():
        if step in recipe.steps and not set(before) & set(recipe.steps):
            raise ConfigError(
                f"step '{step}' goes on from '{before[-1]}', which was not made; expected --steps={before[-1]},{step}"
            )


def _check_vary(config: Config, recipe: TuneConfig, dataset: Dataset) -> None:
    """Refuses what the searches would refuse of the space."""
    vary = dict(text.split("=", 1) for text in recipe.vary)
    trials = max(LEAST_TRIALS, replicas(config, vary))
    setup.make(config.replace(run_dir=None), study_config(vary, {"trials": trials, "scheduler": "asha"}), data=dataset)


def _steps(context: Context, folder: RecipeFolder, steps: tuple[str, ...]) -> dict[str, Finding]:
    """Makes the steps that are not made yet, each in the time that is planned for it; returns what all of them found."""
    findings = folder.found()
    for i, step in enumerate(steps):
        left = context.clock.left
        remaining = [one for one in steps[i:] if one not in findings or findings[one].left_out]
        wishes = steps_lib.wishes(context, findings)
        seconds = budget.planned(step, remaining, left, context.unit, wishes) if step in remaining else None
        if step not in findings or (findings[step].left_out and seconds is not None):
            begun = context.clock.used
            context.say(f"{step}: {steps_lib.WHAT[step]}")
            if lacking := steps_lib.lacking(step, findings):
                found = budget.left_out(step, f"it goes on from what step '{lacking}' did not find")
            elif seconds is None:
                found = budget.left_out(step, budget.no_time(step, left, context.unit))
            else:
                context.deadline = context.clock.used + seconds
                found = steps_lib.MADE[step](context, findings)
            spent = context.clock.used - begun
            findings[step] = dataclasses.replace(found, seconds=spent, planned=math.nan if seconds is None else seconds)
            folder.keep(findings[step])
            if not found.left_out:
                context.unit = budget.unit_of(step, spent, context.unit)
                context.memory.set("unit", context.unit)
            context.memory.set("used", context.clock.used)
            for line in findings[step].lines():
                context.say(line)
        context.choose(findings[step].settings)
        if findings[step].stops:
            break
    return {step: findings[step] for step in STEPS if step in findings}


def _begin(folder: RecipeFolder, config: Config, recipe: TuneConfig) -> None:
    if not folder.resumed:
        header = ["a recipe, resolved; to repeat it:", "python -m hpjax.tune --flagfile=THIS_FILE --study=NEW_FOLDER"]
        folder.write(FLAGS, flags.to_flagfile(config, header, recipe))
    folder.update_metadata(status="running", versions=versions(), git_revision=git_revision())


def _close(folder: RecipeFolder, tuned: Tuned, clock: Clock, unit: float) -> None:
    """Writes the report and the winner's flagfile."""
    from hpjax.report import write

    if "confirm" not in tuned.findings or "best" not in tuned.findings["confirm"].facts:
        header = ["what the recipe has chosen so far", "python -m hpjax.train --flagfile=THIS_FILE --run_dir=NEW_FOLDER"]
        folder.write(BEST, flags.to_flagfile(tuned.config, header))
    write(folder, tuned, lambda: clock.left, unit)
    folder.update_metadata(status="done", verdict=tuned.verdict, error=None)
