"""The engine of a study: same numbers as single runs, one compile, refill, waves, stops, resume."""

import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest

from hpjax import resolve, schedules
from hpjax.build import load, single_run
from hpjax.config import Config, StudyConfig
from hpjax.errors import ConfigError
from hpjax.evaluation import finish
from hpjax.interrupt import Interrupt
from hpjax.objective import Objective
from hpjax.study import engine as engine_lib
from hpjax.study import setup, snapshot
from hpjax.study.engine import Engine
from hpjax.study.group import Group
from hpjax.study.plan import Plan
from hpjax.study.records import Measured, TrialRecord
from hpjax.study.schedulers import Decision, SchedulerSettings
from hpjax.study.schedulers.none import Everything
from hpjax.study.units import Units

BASE = Config(
    hidden_sizes="16", optimizer="adamw", schedule="cosine", warmup="10%", train_steps="24", eval_every="8", log_every="8",
    test_fraction=0.1, batch_size=64,
)  # fmt: skip


def engine_of(config: Config, **study) -> tuple[Engine, setup.GroupMaker, setup.Setup]:
    parts = setup.make(config, StudyConfig(**study))
    maker = setup.GroupMaker(parts)
    made = Engine(
        parts.dataset,
        parts.planner,
        parts.asker,
        parts.scheduler,
        parts.objective,
        parts.study.aggregate,
        maker,
        parts.base.keep_best,
    )
    return made, maker, parts


def run(engine: Engine) -> list[TrialRecord]:
    for _ in engine.run(Interrupt(False)):
        pass
    return engine.records


def outcome(record: TrialRecord) -> tuple:
    """Everything of a trial but when it ran; NaN equals itself."""
    curve = [(m.tick, m.step, np.float64(m.value).tobytes(), sorted(m.numbers.items())) for m in record.curve]
    objective = np.float64(record.objective).tobytes()
    return (
        record.number,
        record.setting,
        record.values,
        record.point,
        record.status,
        str(curve),
        objective,
        record.diverged_at,
    )


def alone(config: Config) -> list[dict[str, float]]:
    """The evaluations of a single run, as `hpjax.train` makes it."""
    config = resolve.resolve(config)
    dataset = load(config)
    lengths, _ = resolve.lengths(config, dataset.splits["train"][1])
    single = single_run(config.replace(devices="1"), dataset, resolve.traced(config, lengths))
    accumulation = config.batch_size // config.micro_batch_size
    states, found, tick = single.init(), [], 0
    while tick < lengths.train_steps * accumulation:
        ticks = min(lengths.eval_every * accumulation, lengths.train_steps * accumulation - tick)
        states, _ = single.program.chunk(states, single.values, single.examples, ticks)
        measured = single.program.evaluate(states, single.examples, *dataset.splits["val"])
        if single.observes:
            states = single.program.observe(states, single.values, measured)
        tick += ticks
        of_lane = {name: value[0] for name, value in jax.device_get(measured).items()}
        found.append(finish(of_lane, dataset.splits["val"][1])[0])
    return found


def test_a_study_gives_the_numbers_of_single_runs_with_one_compile():
    vary = (
        "learning_rate=log(1e-3,1e-1)",
        "weight_decay=uniform(0,0.1)",
        "schedule=choice(cosine,constant,linear,plateau)",
        "batch_size=choice(32,64,96)",
        "dropout_rate=uniform(0,0.5)",
        "seed=range(2)",
    )
    engine, maker, parts = engine_of(BASE, vary=vary, trials=14, lanes="4")
    records = run(engine)
    assert [record.number for record in records] == list(range(14))
    assert all(record.status == "done" for record in records)
    assert len(maker.made) == 1
    (program,) = {id(group.program): group.program for group in engine.groups}.values()
    assert program.traces.pop("observe") == 1
    assert program.traces == {"refill": 1, "chunk": 1, "evaluate": 1, "results": 1}
    for record in records[::3]:
        expected = alone(parts.base.replace(**record.values))
        assert [{f"val/{n}": v for n, v in one.items()} for one in expected] == [
            {n: v for n, v in m.numbers.items() if n.startswith("val/")} for m in record.curve
        ]


def test_static_settings_make_groups_that_are_one_study():
    vary = (
        "optimizer=choice(sgd,momentum)",
        "momentum=uniform(0.5,0.9) if optimizer==momentum",
        "learning_rate=log(1e-3,1)",
    )
    engine, maker, parts = engine_of(BASE, vary=vary, trials=12, lanes="2")
    records = run(engine)
    assert len(maker.made) == 2
    assert {record.values["optimizer"] for record in records} == {"sgd", "momentum"}
    assert all(("momentum" in record.values) == (record.values["optimizer"] == "momentum") for record in records)
    for record in records[:3]:
        expected = alone(parts.base.replace(**record.values))
        assert expected[-1]["loss"] == record.curve[-1].numbers["val/loss"]


@pytest.mark.parametrize("scheduler", ["none", "asha", "asha_promotion", "median", "halving", "hyperband"])
def test_a_trial_that_diverges_changes_no_other(scheduler):
    config = BASE.replace(optimizer="sgd", eval_every="4")
    study = {"trials": 12, "scheduler": scheduler, "sampler": "grid", "lanes": "4"}
    plain = run(
        engine_of(config, vary=("learning_rate=choice(0.01,0.02,0.03,0.04,0.05,0.06,0.07,0.08,0.09,0.1,0.2,0.3)",), **study)[
            0
        ]
    )
    mixed = run(
        engine_of(config, vary=("learning_rate=choice(0.01,0.02,0.03,1e30,0.05,0.06,2e30,0.08,0.09,0.1,0.2,0.3)",), **study)[
            0
        ]
    )
    assert [record.status for record in plain].count("diverged") == 0
    assert [record.number for record in mixed if record.status == "diverged"] == [3, 6]
    for one, other in zip(plain, mixed, strict=True):
        # A scheduler may stop others than before; what both have trained is the same.
        shared = min(len(one.curve), len(other.curve))
        if one.number not in (3, 6):
            assert one.curve[:shared] == other.curve[:shared]
            assert shared > 0
    assert math.isnan(mixed[3].objective)


def test_a_trial_that_diverges_late_has_no_objective():
    config = BASE.replace(optimizer="sgd", schedule="multistep", milestones="4", gamma=1e36, eval_every="2", warmup="0")
    engine, _, _ = engine_of(config, vary=("learning_rate=choice(0.01,0.02)",), trials=2, sampler="grid", lanes="2")
    records = run(engine)
    assert all(record.status == "diverged" and math.isfinite(record.curve[0].value) for record in records)
    assert all(math.isnan(record.objective) for record in records)
    assert engine.best is None


@pytest.mark.parametrize("objectives", list(itertools.permutations([0.9, 0.2, math.nan])))
def test_a_median_with_an_infeasible_seed_is_no_score(objectives):
    told = []

    class Listens(Everything):
        def report(self, unit, evaluation, score):
            told.append(score)
            return Decision.CONTINUE

        def ended(self, unit):
            pass

    records = [TrialRecord(i, 0, {}, (), "done", [Measured(1, 1, value, {})]) for i, value in enumerate(objectives)]
    units = Units(Listens(SchedulerSettings(), 1, 1), Objective("val/accuracy", True, "best"), "median", records)
    units.add(0, range(3))
    for i in range(3):
        units.ended(i)
    assert told == [-math.inf]
    assert units.best is None
    assert [seen.score for seen in units.seen] == [-math.inf]


@pytest.mark.parametrize(
    ("scheduler", "cut"),
    [
        *[(name, False) for name in ("none", "asha", "asha_promotion", "halving", "hyperband")],
        ("none", True),
        ("asha", True),
    ],
)
def test_going_on_from_any_snapshot_ends_alike(rng, monkeypatch, scheduler, cut):
    """Also where rounds are cut: a slow machine cuts what a fast one does not, and neither number nor count may change."""
    config = BASE.replace(train_steps="27", eval_every="3")
    vary = ("learning_rate=log(1e-4,1e30)", "seed=range(2)")
    study = {"vary": vary, "trials": 24, "lanes": "4", "scheduler": scheduler}
    engine, _, _ = engine_of(config, **study)
    whole, counts = run(engine), engine.counts
    assert {"done", "diverged"} <= {record.status for record in whole}
    if cut:
        monkeypatch.setattr(engine_lib, "SECONDS_A_SLICE", 0.0)
    looks = sum(1 for _ in engine_of(config, **study)[0].run(Interrupt(False)))
    assert (looks > 2 * counts.rounds) == cut
    for stop in rng.choice(looks - 1, 2, replace=False).tolist():
        first, _, _ = engine_of(config, **study)
        running = first.run(Interrupt(False))
        for _ in range(stop + 1):
            next(running)
        tree, facts = jax.tree.map(np.copy, snapshot.take(first)[0]), snapshot.take(first)[1]
        records = [
            TrialRecord(r.number, r.setting, r.values, r.point, r.status, list(r.curve), r.objective, r.diverged_at)
            for r in first.records
        ]
        second, _, _ = engine_of(config, **study)
        like = snapshot.like(second, facts, records)
        assert jax.tree.map(np.shape, like) == jax.tree.map(np.shape, tree)
        snapshot.take_up(second, tree, facts)
        assert [outcome(r) for r in run(second)] == [outcome(r) for r in whole]
        assert second.counts == counts


@pytest.fixture(scope="module")
def two_groups():
    """A function that makes engines of two compile groups, which are compiled once for all of them."""
    made: dict[tuple, Group] = {}

    def make(**study) -> Engine:
        vary = ("optimizer=choice(sgd,momentum)", "learning_rate=log(1e-3,1)")
        engine, maker, parts = engine_of(BASE, vary=vary, lanes="4", **study)

        def groups(number: int, plan: Plan) -> list[Group]:
            if plan.group not in made:
                made[plan.group] = maker(number, plan)[0]
            first = made[plan.group]
            lanes = [Group(first.program, first._examples, number, plan, first._validation)]
            return [*lanes, Group(first.program, first._examples, number, plan, first._validation, lanes[0])]

        assert parts.waves == 2
        engine._make_group = groups
        return engine

    return make


@pytest.mark.parametrize(("sampler", "scheduler"), [("tpe", "none"), ("halton", "asha")])
def test_groups_draw_little_before_results_come(two_groups, sampler, scheduler):
    """Else a sampler would give all settings before it has seen one, and a scheduler's decisions would come late."""
    study = {"trials": 60, "sampler": sampler, "scheduler": scheduler}
    engine = two_groups(**study)
    drawn, stop = 0, 0
    for look, _ in enumerate(engine.run(Interrupt(False))):
        assert engine.statuses["waiting"] <= 2 * 4
        if engine.seen and not stop:
            drawn, stop = len(engine.records), look
    assert drawn <= 2 * 4 + 4
    assert len({group.key for group in engine.groups}) == 2
    first = two_groups(**study)
    running = first.run(Interrupt(False))
    for _ in range(stop + 1):
        next(running)
    tree, facts = snapshot.take(first)
    second = two_groups(**study)
    snapshot.like(second, facts, [dataclasses.replace(record, curve=list(record.curve)) for record in first.records])
    snapshot.take_up(second, jax.tree.map(np.copy, tree), facts)
    assert [outcome(record) for record in run(second)] == [outcome(record) for record in engine.records]


@pytest.mark.parametrize(
    ("settings", "vary"),
    [
        ({"schedule": "cosine", "warmup": "20", "schedule_steps": "80"}, ()),
        ({"schedule": "step", "step_size": "20", "gamma": 0.5}, ()),
        ({"schedule": "multistep", "milestones": "20,50", "gamma": 0.5}, ()),
        ({"schedule": "linear(end_factor=0.1):40, step(step_size=10,gamma=0.5)", "weight_decay": 0.1}, ()),
        ({"weight_decay_schedule": "multistep(milestones=20,50,gamma=0.5)"}, ()),
        ({"schedule": "inverse_time", "decay_rate": 1.0, "decay_steps": "40", "staircase": True}, ()),
        ({"schedule": "exponential", "gamma": 0.9}, ()),
        ({}, ("warmup=choice(20,40)", "schedule=choice('linear:50, constant')")),
    ],
)
def test_schedules_of_two_batch_sizes_agree_at_equal_examples(settings, vary):
    config = BASE.replace(warmup="0", train_steps="100", schedule="constant").replace(**settings)
    parts = setup.make(config, StudyConfig(vary=("batch_size=choice(16,64)", *vary), trials=4))
    more = parts.space.values([0.3] * len(parts.space.leaves))
    del more["batch_size"]
    plans = [parts.planner.plan({"batch_size": size, **more}) for size in (16, 64)]
    names = ("train_steps", "eval_every", "log_every")
    small, large = ([getattr(plan.lengths, name) for name in names] for plan in plans)
    assert small == [4 * steps for steps in large]
    pairs = list(zip((4, 1), plans, strict=True))
    ones = np.ones(len(schedules.QUANTITIES), np.int32)
    factors = [[schedules.factors(times * step * ones, plan.scalars) for step in range(0, 100, 9)] for times, plan in pairs]
    # A warmup rises within a step of the larger batch, too.
    np.testing.assert_allclose(*factors, atol=3 / 80)
    assert parts.notes[0].startswith("lengths in steps are those of batch 64, as many examples for every trial: ")
    early = parts.planner.plan({"batch_size": 16, "early_stopping_patience": 1, "early_stopping_min_steps": "10", **more})
    assert early.lengths.early_stopping_min_steps == 40


@pytest.mark.parametrize(
    ("vary", "settings", "note"),
    [
        (("learning_rate=choice(0.01,0.1)",), {"trials": 8}, "2 settings x 1: 2 trials instead of 8; the space has no more"),
        (("seed=range(4)",), {"trials": 16}, "1 setting x 4: 4 trials instead of 16; the space has no more"),
        (
            ("learning_rate=log(1e-4,1)", "seed=range(6)"),
            {"trials": 16},
            "2 settings x 6: 12 trials instead of 16; 6 a setting, or none",
        ),
        (
            ("learning_rate=log(1e-4,1,100)",),
            {"trials": 8, "sampler": "grid"},
            "8 settings spread over a grid of 100 points; --extend tries the others",
        ),
        (("learning_rate=log(1e-4,1)",), {"trials": 8}, None),
        (("learning_rate=choice(0.01,0.1)",), {"trials": 2}, None),
    ],
)
def test_fewer_trials_or_settings_than_one_may_think_are_told(vary, settings, note):
    parts = setup.make(BASE, StudyConfig(vary=vary, **settings))
    assert parts.notes == (() if note is None else (note,))


def test_lanes_are_busy_where_the_ends_are_known():
    engine, _, _ = engine_of(BASE, vary=("learning_rate=log(1e-4,1e-1)",), trials=40, lanes="4")
    run(engine)
    assert engine.counts.occupancy >= 0.95
    assert engine.counts.late == 0


def test_folds_are_other_validation_splits_of_the_same_examples():
    config = BASE.replace(folds=3)
    engine, maker, parts = engine_of(config, vary=("learning_rate=log(1e-3,1e-1)",), trials=6, lanes="2")
    records = run(engine)
    assert [record.values["fold"] for record in records] == [0, 1, 2, 0, 1, 2]
    assert len(maker.made) == 1
    for record in records[:3]:
        expected = alone(parts.base.replace(**record.values))
        assert expected[-1]["loss"] == record.curve[-1].numbers["val/loss"]
    assert len({record.curve[-1].numbers["val/loss"] for record in records[:3]}) == 3


def test_trials_of_other_lengths_all_come_to_their_ends():
    """More of them than are looked at beforehand, the longest last."""
    config = BASE.replace(eval_every="4", schedule="constant", warmup="0")
    study = {"vary": ("train_steps=int(4,73)",), "trials": 70, "sampler": "grid", "lanes": "2"}
    records = run(engine_of(config, **study)[0])
    assert [record.status for record in records] == ["done"] * 70
    assert [record.curve[-1].step for record in records] == list(range(4, 74))
    assert [len(record.curve) for record in records] == [-(-steps // 4) for steps in range(4, 74)]
    with pytest.raises(ConfigError, match="vary has 'train_steps', but scheduler 'asha' compares trials of one length"):
        engine_of(config, **study, scheduler="asha")
