"""From a study's settings to its parts: everything that can be refused is refused here, before anything compiles."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from hpjax import build, devices, inert, metrics, resolve
from hpjax.batch import Examples
from hpjax.config import Config, StudyConfig
from hpjax.data import Dataset
from hpjax.errors import ConfigError
from hpjax.initial import load as load_initial
from hpjax.lanes import LaneProgram
from hpjax.lengths import INT32_MAX
from hpjax.objective import Objective
from hpjax.placement import Layout
from hpjax.settings.fields import Lines
from hpjax.study import before, checks, export, once, samplers, schedulers
from hpjax.study.ask import Asker
from hpjax.study.group import Group
from hpjax.study.plan import Plan, Planner, equal_work
from hpjax.study.schedulers import Scheduler, SchedulerSettings
from hpjax.study.space import Space
from hpjax.trial import Trial

LANES_A_CORE = 8
"""Lanes that a CPU device takes one after the other, so that the host's work for a round is small beside the round."""
TRIALS_A_LANE = 10
"""Trials a lane that a study should have: with fewer, many lanes stand empty at its end."""
CHECKED = 64
"""Settings of which it is checked beforehand that their values go together."""


class Setup(NamedTuple):
    """A study's parts.

    Attributes:
      base: the config that its trials differ from.
      study: its settings, `auto` resolved.
      dataset: the data.
      space: what varies.
      asker: gives new settings.
      scheduler: decides which go on.
      planner: makes plans of trials.
      objective: what is to be best.
      layout: of the lanes that run together.
      waves: groups of lanes that take turns.
      metrics: what is measured beside the loss.
      notes: what a person should be told.
      groups: a plan of each compile group that is known beforehand.
      layout_of: for a lane width the layout, where a probe is to choose the width; else None.
      lanes_a_wave: lanes that were asked for, of one wave; None where they follow from the width.
      share: the processes that have the devices.
    """

    base: Config
    study: StudyConfig
    dataset: Dataset
    space: Space
    asker: Asker
    scheduler: Scheduler
    planner: Planner
    objective: Objective
    layout: Layout
    waves: int
    metrics: tuple[str, ...]
    notes: tuple[str, ...]
    groups: tuple[Plan, ...]
    layout_of: Callable[[int], Layout] | None = None
    lanes_a_wave: int | None = None
    share: devices.Share = devices.ALL

    @property
    def measured(self) -> tuple[str, ...]:
        """The numbers of an evaluation by name."""
        names = ("loss", *(name for name in self.metrics if metrics.is_scalar(name)))
        train = [f"train/{name}" for name in names if name == "loss" or metrics.is_mean(name)]
        return (*train, *(f"val/{name}" for name in names if self.dataset.splits["val"][1] > 0))

    @property
    def trials(self) -> int:
        """Trials in all."""
        return self.asker.settings * len(self.asker.replicas)


def make(
    config: Config,
    study: StudyConfig,
    tried: Sequence[Mapping[str, Any]] = (),
    *,
    repeats: bool = False,
    data: Dataset | None = None,
    share: devices.Share = devices.ALL,
) -> Setup:
    """Returns the parts of a study.

    Args:
      config: what the trials have in common.
      study: the study's settings.
      tried: settings that a study tried before it was made longer, seeds and folds left out.
      repeats: whether a sampler may give a setting again though it has given all that there are.
      data: the data set, where it is in memory already.
      share: the processes that have the devices.

    Raises:
      ConfigError: bad settings, or a space whose values do not go together.
      DataError: the data set is missing or damaged.
    """
    lost = devices.configure()
    checks.check(config)
    if not study.vary:
        raise ConfigError("vary is not given; expected at least one, --vary='learning_rate=log(1e-4,1)' for example")
    if config.folds is not None and not any(text.partition("=")[0].strip() == "fold" for text in study.vary):
        study = dataclasses.replace(study, vary=Lines((*study.vary, f"fold=range({config.folds})")))
    study = dataclasses.replace(study, enqueue=before.absolute(study.enqueue), warm_start=before.absolute(study.warm_start))
    if study.storage is not None:
        export.check(study.storage)
    space = Space.parse(study.vary, config)
    if not {"warmup", *inert.WARMUP_SHAPE} & set(space.names):
        inert.check_warmup(config)
    checks.check_order(config, (*space.names, *space.replicated))
    config, notes = equal_work(config, _batch_sizes(space)) if "batch_size" in space.names else (config, [])
    # On a CPU lanes run one after the other; elsewhere it is measured how many together, once the rest is known to be sound.
    open_width = config.lane_width == "auto" and jax.default_backend() != "cpu"
    width = 1 if config.lane_width == "auto" else int(config.lane_width)
    config = config.replace(
        lane_width=str(width),
        devices="1" if config.devices == "auto" else config.devices,
        native=resolve.native_mode(config.native),
    )
    sampler = samplers.create(study.sampler, space.leaves, study.sampler_seed)
    if sampler.size is not None:
        space.check_grid()
    if study.trials < len(space.replicas):
        raise ConfigError(f"trials is {study.trials}; expected at least {len(space.replicas)}, one for each seed and fold")
    first_of_all = before.enqueued(study, space)
    waves = 2 if study.scheduler != "none" or sampler.learns else 1
    if sampler.name == "grid" or not repeats:
        sampler = once.of(sampler, space, study, config, first_of_all, tried)
    asker = Asker(space, sampler, study.trials, first_of_all)
    names = (*space.names, *space.replicated)
    drawn = [space.values(point) for point in sampler.points(0, min(CHECKED, asker.settings), [])]
    # A space of which nothing is left is refused once the study's folder is known.
    values = first_of_all + drawn or [dict(one) for one in tried[:1]]
    first = resolve.resolve(config.replace(**values[0], **space.replicas[0]))
    checks.check_folds(first, [replica.get("fold", 0) for replica in space.replicas])
    # Of the first fold, whichever the first trial's is: the others' examples are counted from there.
    dataset = build.load(first.replace(fold=0), data)
    planner = Planner(config, names, dataset.train_sizes(config.folds or 1))
    plans = [planner.plan({**of_setting, **space.replicas[0]}) for of_setting in values]
    groups = tuple({plan.group: plan for plan in plans}.values())
    for group in groups:
        devices.check_trial(group.config, share)
        build.check_parts(group.config, dataset, group.scalars)
        build.initial(group.config, dataset)
    asker.tell(before.told(study, space, resolve.objective(first)))
    last = max(plan.evaluations for plan in plans) if study.scheduler != "none" else INT32_MAX
    if study.scheduler != "none" and "train_steps" in space.names:
        raise ConfigError(
            f"vary has 'train_steps', but scheduler '{study.scheduler}' compares trials of one length; expected none"
        )
    layout_of = functools.partial(_layout, study, asker.settings * len(asker.replicas), waves, config, share)
    layout = layout_of(width)
    if config.share_batches and width == 1 and not open_width:
        notes.append("share_batches: one order of the data for all trials; lanes of width 1 still read a batch each")
    settings = SchedulerSettings(eta=study.eta, min_evaluations=study.min_evaluations)
    return Setup(
        base=config,
        study=dataclasses.replace(study, lanes=str(layout.lanes * waves)),
        dataset=dataset,
        space=space,
        asker=asker,
        scheduler=schedulers.create(study.scheduler, settings, asker.settings, last),
        planner=planner,
        objective=resolve.objective(first),
        layout=layout,
        waves=waves,
        metrics=first.metrics or (),
        notes=tuple(note for note in (lost, *notes, *_fewer(study, space, asker)) if note),
        groups=groups,
        layout_of=layout_of if open_width else None,
        lanes_a_wave=None if study.lanes == "auto" else layout.lanes,
        share=share,
    )


class GroupMaker:
    """Makes compile groups that share the data set on the devices."""

    def __init__(
        self,
        setup: Setup,
        say: Callable[[str], None] = lambda line: None,
        program: Callable[[Trial, Layout], LaneProgram] | None = None,
    ):
        """Makes groups of a setup; `say` is told of each that will be compiled, `program` makes or finds its program."""
        layout = setup.layout
        here = setup.share.devices(layout.lane_devices * layout.data_devices)
        self._setup, self._say, self._program = setup, say, program or functools.partial(LaneProgram, devices=here)
        self._examples: Examples | None = None
        self.made: list[Plan] = []

    def __call__(self, number: int, plan: Plan) -> list[Group]:
        """Returns the group of a trial, by number and plan."""
        setup = self._setup
        program = self._program(build.trial(plan.config, setup.dataset), setup.layout)
        if self._examples is None:
            dataset = setup.dataset
            self._examples = program.put_examples(build.examples(dataset))
        examples = self._examples
        if plan.config.init_from is not None:
            begin = load_initial(plan.config.init_from, build.variables(program.trial, setup.dataset))
            examples = examples._replace(initial=program.put_examples(begin.variables))  # type: ignore[arg-type]
        self.made.append(plan)
        static = ", ".join(
            f"{name} {value}" for name, value in plan.group if name != "schedules" and value not in (True, False)
        )
        self._say(f"compiling group {len(self.made)}{': ' + static if static else ''}")
        validation = setup.dataset.held_out
        groups = [Group(program, examples, number, plan, validation)]
        groups[0].compile()
        # While one half of the lanes runs, the host decides about the other: no decision is late.
        groups += [Group(program, examples, number, plan, validation, groups[0]) for _ in range(setup.waves - 1)]
        return groups


def _fewer(study: StudyConfig, space: Space, asker: Asker) -> list[str]:
    """Returns what a person should be told where a study has fewer trials, or settings, than they may think."""
    notes, settings, replicas = [], asker.settings, len(asker.replicas)
    if settings * replicas != study.trials:
        number = f"{settings} setting{'' if settings == 1 else 's'} x {replicas}"
        why = "the space has no more" if settings < study.trials // replicas else f"{replicas} a setting, or none"
        notes.append(f"{number}: {settings * replicas} trials instead of {study.trials}; {why}")
    if isinstance(asker.sampler, once.Once) and asker.sampler.spread:
        notes.append(f"{settings} settings spread over a grid of {space.grid_size} points; --extend tries the others")
    return notes


def _batch_sizes(space: Space) -> list[int]:
    leaves = [leaf for leaf in space.leaves if leaf.setting == "batch_size"]
    if len(leaves) != 1 or leaves[0].count is None or leaves[0].count > 10_000:
        raise ConfigError("vary 'batch_size' is not counted; expected choice(32,64,128) or grid(32,64,128)")
    return [int(leaves[0].value((i + 0.5) / leaves[0].count)) for i in range(leaves[0].count)]


def _layout(study: StudyConfig, trials: int, waves: int, config: Config, share: devices.Share, width: int) -> Layout:
    """Returns where the lanes lie: on a CPU a few one after the other on each core, elsewhere a group on each device."""
    shared = int(config.devices)
    # pmap maps one axis: where the devices share batches, lanes take turns.
    step, present = (1, 1) if config.parallel == "pmap" and shared > 1 else share.lane_devices(shared)
    make = functools.partial(Layout, width=width, data_devices=shared, parallel=config.parallel)  # type: ignore[arg-type]
    if study.lanes == "auto":
        over = max(step, min(present, trials // width) // step * step)
        most = LANES_A_CORE if jax.default_backend() == "cpu" else 1
        each = max(1, min(most, trials // (TRIALS_A_LANE * over * width * waves)))
        return make(lanes=over * width * each, lane_devices=over)
    lanes = int(study.lanes)
    if lanes % (width * waves * step):
        also = f", {step} for {share.processes} processes" if step > 1 else ""
        many = f"expected a multiple of {width * waves * step}: lane_width {width}, {waves} waves{also}"
        raise ConfigError(f"lanes is {lanes}; {many}")
    groups = lanes // waves // width
    over = max(number for number in range(step, present + 1, step) if groups % number == 0)
    return make(lanes=lanes // waves, lane_devices=over)
