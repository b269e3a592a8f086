"""The deadline plan: whatever the steps take, all of them and the report end within the budget; by a clock of our own."""

import contextlib
import math
from types import SimpleNamespace

import pytest

from hpjax import build, resolve
from hpjax.config import Config
from hpjax.recipe import budget, recipe, steps
from hpjax.recipe.asked import chosen, replicas
from hpjax.recipe.confirm import Size, affordable
from hpjax.recipe.context import Clock, Context, Memory
from hpjax.recipe.finding import Finding, Note
from hpjax.recipe.folder import RecipeFolder
from hpjax.report.words import summary
from hpjax.settings.recipe import STEPS

CONFIG = Config(dataset="iris", model="logistic", batch_size=30, train_steps="60", progress=False)


class Machine:
    """A clock that only steps move."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def made(monkeypatch, tmp_path, seconds: float, takes) -> tuple[dict[str, Finding], Machine]:
    """Makes all steps; `takes` says of a step's name, and of what it may take, what it takes."""
    machine = Machine()
    resolved = resolve.resolve(CONFIG)
    with contextlib.closing(RecipeFolder.open(tmp_path / "tune")) as folder:
        folder.write("flags.txt", "")
        clock = Clock(seconds, now=machine)
        context = Context(resolved, build.load(resolved), {}, 4, clock, folder, Memory(folder), lambda line: None)

        def step(name):
            def run(context, _):
                machine.now += takes(name, context.time)
                best = {"best": {"value": 1.0}} if name in ("coarse", "refine", "confirm") else {}
                facts = {"trial_steps_per_second": 1000.0} if name in ("lr", "coarse", "refine") else {}
                return Finding(name, (Note(name, "ok", "made"),), facts={**best, **facts})

            return run

        monkeypatch.setattr(steps, "MADE", {name: step(name) for name in STEPS})
        return recipe._steps(context, folder, STEPS), machine


@pytest.mark.parametrize("seconds", [20, 40, 60, 120, 600, 7200])
@pytest.mark.parametrize("slow", [0.3, 1, 4, 10])
def test_steps_that_keep_their_deadlines_leave_the_report_its_time(monkeypatch, tmp_path, rng, seconds, slow):
    # What no deadline ends takes as long as the machine is slow; the others take all that they may, or less.
    whole = {name: slow * need.units for name, need in budget.NEEDS.items()}

    def takes(name, may):
        if name == "initial":
            return whole[name]
        return rng.uniform(0.7, 1) * whole[name] if name in ("gradient", "curves") else may * rng.choice([1.0, 0.6])

    findings, machine = made(monkeypatch, tmp_path, seconds, takes)
    assert set(findings) == set(STEPS)
    if whole["initial"] < seconds - budget.NEEDS["report"].units * slow:
        assert machine.now + budget.NEEDS["report"].units * slow <= seconds * 1.0001
    of_others = [one for name, one in findings.items() if name != "initial"]
    assert all(one.seconds <= one.planned * 1.0001 for one in of_others if not one.left_out)
    if seconds >= 600 and slow <= 4:
        assert not any(one.left_out for one in findings.values())


def test_a_step_that_takes_longer_than_it_may_is_paid_by_the_later_ones(monkeypatch, tmp_path):
    findings, machine = made(monkeypatch, tmp_path, 120, lambda name, may: 3.0 if name == "initial" else 2 * may)
    left_out = [name for name, one in findings.items() if one.left_out]
    assert "coarse" not in left_out and "lr" not in left_out
    assert left_out
    assert machine.now < 240


def test_what_is_left_out_is_said_and_is_the_least_important(monkeypatch, tmp_path):
    findings, _ = made(monkeypatch, tmp_path, 60, lambda name, may: 15.0 if name == "initial" else min(may, 12.0))
    left_out = [name for name, one in findings.items() if one.left_out]
    assert left_out and not {"initial", "lr", "coarse"} & set(left_out)
    for name in left_out:
        assert findings[name].verdict == "warning"
        assert "of the budget were left" in findings[name].notes[0].evidence
        assert "--budget" in findings[name].notes[0].remedy
    tuned = SimpleNamespace(findings=findings, stopped_by=None, config=CONFIG, path=tmp_path)
    (said,) = [(step, note) for step, note in summary(tuned).problems if note.rule == "left_out"]
    assert said[0].split(", ") == left_out, "one line for all of them"


def test_a_larger_budget_makes_what_was_left_out(monkeypatch, tmp_path):
    before, _ = made(monkeypatch, tmp_path, 30, lambda name, may: 15.0 if name == "initial" else min(may, 3.0))
    assert before["refine"].left_out
    after, _ = made(monkeypatch, tmp_path, 600, lambda name, may: min(may, 3.0))
    assert not any(one.left_out for one in after.values())
    assert after["initial"].seconds == 15.0, "what was made stays"


def test_two_whole_runs_are_kept_for_the_confirmation_and_some_trials_for_the_search():
    unit, left = 1.0, 100.0
    remaining = STEPS[STEPS.index("batch") :]

    def planned(step, wished, left=left):
        return budget.planned(step, remaining[remaining.index(step) :], left, unit, wished)

    plain = planned("coarse", {})
    assert planned("coarse", {"confirm": 60.0}) < plain
    # A wish that is too large takes nothing from anybody, for the confirmation; the search takes what it can.
    assert planned("coarse", {"confirm": 1000.0}) == plain
    assert planned("coarse", {"coarse": 1000.0}) == pytest.approx(
        left - sum(budget.NEEDS[n].units for n in ("report", "curves", "confirm"))
    )
    assert planned("coarse", {"confirm": 60.0, "coarse": 1000.0}) == pytest.approx(
        planned("coarse", {"coarse": 1000.0}) - 60.0
    )
    # What matters less has nothing then.
    assert planned("batch", {"confirm": 60.0}) is not None
    assert planned("batch", {"confirm": 60.0, "coarse": 30.0}) is None
    assert planned("confirm", {"confirm": 60.0}, 70.0) > 64.0


def test_a_confirmation_is_as_large_as_the_time_allows(monkeypatch):
    monkeypatch.setattr("jax.devices", lambda: [None, None])
    full, seeds, least = 1000, 4, 100
    found = {
        seconds: affordable(100.0, seconds, full, seeds, least) for seconds in (200, 130, 90, 45, 35, 25, 15, 11, 9, 4, 1)
    }
    assert found == {
        200: Size(4, 4, 1000),
        130: Size(3, 4, 1000),
        90: Size(2, 4, 1000),
        45: Size(2, 2, 1000),
        35: Size(2, 2, 875),
        # One seed in full rather than two at less than three quarters.
        25: Size(2, 1, 1000),
        15: Size(2, 1, 750),
        11: Size(2, 1, 550),
        9: Size(2, 1, 450),
        4: None,
        1: None,
    }


def test_time_is_infinite_without_a_deadline_and_never_below_zero():
    machine = Machine()
    context = Context(CONFIG, None, {}, 2, Clock(10.0, now=machine), None, None, print)  # type: ignore[arg-type]
    assert context.time == math.inf and not context.late
    context.deadline = 4.0
    machine.now = 3.0
    assert context.time == 1.0 and not context.late
    machine.now = 5.0
    assert context.time == 0.0 and context.late and not context.too_late
    machine.now = 9.5
    assert context.too_late


def test_each_setting_has_a_trial_for_each_seed_and_fold():
    config = Config(dataset="iris", model="logistic", folds=3)
    space = {"learning_rate": "log(1e-3,1)"}
    assert replicas(config, space) == 3 and replicas(config, {}) == 3
    assert replicas(config, {**space, "seed": "range(2)", "data_seed": "range(5)"}) == 30
    assert replicas(config, {**space, "fold": "range(2)"}) == 2
    assert replicas(config.replace(folds=None), {"seed": "range(2)"}) == 2


def test_what_was_chosen_takes_along_what_follows_from_it():
    given = Config(dataset="iris", model="logistic", batch_size=16, train_steps="100", seed=3)
    findings = {
        "lr": Finding("lr", (), settings={"learning_rate": "0.1"}),
        "coarse": Finding("coarse", (), settings={"batch_size": "8"}),
    }
    found = chosen(given, findings)
    assert (found.learning_rate, found.batch_size, found.micro_batch_size) == (0.1, 8, 8)
    assert (found.train_steps, found.data_seed) == ("1600examples", 3)
    assert chosen(given, {}).train_steps == "100"
