"""Schedulers in whole studies of random curves: what always holds, Optuna's and the paper's rules beside ours, resume."""

import json
import math

import numpy as np
import optuna
import pytest

from hpjax.study import schedulers
from hpjax.study.schedulers import SCHEDULERS, Decision, SchedulerSettings

CONTINUE, STOP, PAUSE = Decision.CONTINUE, Decision.STOP, Decision.PAUSE
LAST = 12


class Study:
    """A study of given curves on a few lanes, whose order is random; checks what must hold at every step.

    Attributes:
      scheduler: may be exchanged between two steps.
      log: what was asked and answered.
      reached: evaluations that each unit has come to.
      fate: how each unit ended: done, stopped, dropped, closed or died.
    """

    def __init__(self, scheduler: schedulers.Scheduler, curves: np.ndarray, seed: int, lanes: int, deaths: float = 0.0):
        self.scheduler, self.curves, self.lanes, self.deaths = scheduler, curves, lanes, deaths
        self.rng = np.random.default_rng(seed)
        self.running: list[int] = []
        self.reached: dict[int, int] = {}
        self.fate: dict[int, str] = {}
        self.waiting: set[int] = set()
        self.log: list[tuple] = []

    def fill(self) -> None:
        while len(self.running) < self.lanes:
            unit = self.scheduler.resume()
            if unit is not None:
                assert unit in self.waiting
                self.waiting.remove(unit)
            elif self.scheduler.may_begin():
                unit = len(self.reached)
                if unit == len(self.curves):
                    self.scheduler.no_more()
                    assert not self.scheduler.may_begin()
                    continue
                self.scheduler.begin(unit)
                self.reached[unit] = 0
            else:
                return
            self.log.append(("runs", unit))
            self.running.append(unit)

    def step(self) -> bool:
        """Runs one unit by one evaluation; returns whether there was one."""
        self.fill()
        if not self.running:
            for unit in self.scheduler.close():
                self.end(unit, "closed")
            assert not self.waiting and self.scheduler.resume() is None
            return False
        unit = self.running.pop(self.rng.integers(len(self.running)))
        self.reached[unit] += 1
        evaluation, score = self.reached[unit], self.curves[unit, self.reached[unit] - 1]
        if evaluation < LAST and self.rng.random() < self.deaths:
            self.scheduler.ended(unit)
            self.end(unit, "died")
        else:
            pauses = self.scheduler.pauses_at(unit, evaluation)
            decision = self.scheduler.report(unit, evaluation, score)
            self.log.append((unit, evaluation, decision))
            assert decision in ((PAUSE, STOP) if pauses else (CONTINUE, STOP))
            if decision is STOP:
                assert evaluation in self.scheduler.rungs
                self.end(unit, "stopped")
            elif decision is PAUSE:
                assert evaluation in self.scheduler.rungs
                self.waiting.add(unit)
            elif evaluation == LAST:
                self.end(unit, "done")
            else:
                self.running.append(unit)
        for gone in self.scheduler.dropped():
            self.end(gone, "dropped")
        return True

    def end(self, unit: int, fate: str) -> None:
        if fate in ("dropped", "closed"):
            assert unit in self.waiting
            self.waiting.remove(unit)
        assert unit not in self.fate and unit not in self.waiting
        self.fate[unit] = fate
        self.log.append((fate, unit))

    def run(self) -> "Study":
        while self.step():
            pass
        assert len(self.reached) == len(self.fate) == len(self.curves)
        return self


def random_curves(rng: np.random.Generator, units: int, infeasible: float = 0.0) -> np.ndarray:
    """Returns curves [units, LAST] of few values, so that there are ties, some of them infeasible."""
    curves = rng.integers(0, rng.integers(1, 30), (units, LAST)).astype(float)
    return np.where(rng.random(curves.shape) < infeasible, -math.inf, curves)


def create(name: str, units: int | None, eta: int = 3, last: int = LAST, **settings: int) -> schedulers.Scheduler:
    return schedulers.create(name, SchedulerSettings(eta=eta, **settings), units, last)


def random_study(name: str, rng: np.random.Generator, infeasible: float = 0.0, deaths: float = 0.0) -> dict:
    """Returns a study's arguments, with `make` for its scheduler."""
    units = int(rng.integers(1, 60))
    eta, least, known = int(rng.choice([2, 3, 4, 10])), int(rng.integers(1, 3)), rng.random() < 0.5 or name == "halving"
    told = units + int(rng.integers(0, 10)) if known else None
    return {
        "make": lambda: create(name, told, eta=eta, min_evaluations=min(least, 12 // eta), min_units=2),
        "curves": random_curves(rng, units, infeasible),
        "seed": int(rng.integers(2**31)),
        "lanes": int(rng.integers(1, 9)),
        "deaths": deaths,
    }


def start(study: dict) -> Study:
    return Study(study["make"](), study["curves"], study["seed"], study["lanes"], study["deaths"])


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_every_unit_comes_to_an_end_and_one_is_trained_to_the_last(name, rng):
    for _ in range(60):
        study = start(random_study(name, rng)).run()
        assert "done" in study.fate.values()
        assert "died" not in study.fate.values()
        if name in ("none", "asha", "median"):
            assert not {"dropped", "closed"} & set(study.fate.values())
        if name in ("halving", "hyperband"):
            assert "closed" not in study.fate.values()


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_no_infeasible_unit_passes_a_rung_and_none_waits_for_the_dead(name, rng):
    for _ in range(60):
        args = random_study(name, rng, infeasible=rng.choice([0.1, 0.5, 1.0]), deaths=rng.choice([0.0, 0.2]))
        study = start(args).run()
        for unit, reached in study.reached.items():
            rungs = study.scheduler.rungs if name in ("asha", "asha_promotion", "halving", "median") else ()
            assert all(math.isfinite(study.curves[unit, rung - 1]) for rung in rungs if rung < reached)


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_saved_and_loaded_at_every_step_it_decides_the_same(name, rng):
    for _ in range(8):
        args = random_study(name, rng, infeasible=0.1, deaths=0.05)
        whole, cut = start(args).run(), start(args)
        while cut.step():
            text = json.dumps(cut.scheduler.state(), allow_nan=False)
            cut.scheduler = args["make"]()
            cut.scheduler.load(json.loads(text))
            assert json.dumps(cut.scheduler.state(), allow_nan=False) == text
        assert cut.log == whole.log


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_a_study_goes_on_with_more_units(name, rng):
    for _ in range(20):
        curves, lanes, closed = random_curves(rng, 40), int(rng.integers(1, 9)), rng.random() < 0.5
        study = Study(create(name, 15), curves, 0, lanes)
        for _ in range(10**6 if closed else int(rng.integers(1, 150))):
            if not study.step():
                break
        state = json.loads(json.dumps(study.scheduler.state()))
        study.scheduler = create(name, 40)
        study.scheduler.load(state)
        study.run()
        assert len(study.reached) == 40
        later = [fate for unit, fate in study.fate.items() if unit >= 15]
        assert "done" in later or name not in ("none", "halving", "hyperband")


def test_the_order_of_arrival_means_nothing_to_halving(rng):
    for _ in range(20):
        curves = random_curves(rng, int(rng.integers(1, 60)), 0.1)
        studies = [Study(create("halving", len(curves)), curves, seed, lanes).run() for seed, lanes in ((1, 1), (2, 8))]
        assert studies[0].reached == studies[1].reached


def test_halving_keeps_the_best(rng):
    curves = rng.permuted(np.arange(30.0 * LAST).reshape(LAST, 30), axis=1).T
    study = Study(create("halving", 30), curves, 0, 4).run()  # rungs 1, 3, 9
    alive = np.arange(30)
    for rung in (1, 3, 9):
        assert {unit for unit, reached in study.reached.items() if reached >= rung} == set(alive)
        alive = alive[np.argsort(-curves[alive, rung - 1])[: max(1, len(alive) // 3)]]
    assert [unit for unit, fate in study.fate.items() if fate == "done"] == list(alive)


class Paper:
    """ASHA's promotion rule beside ours: each `resume` as in Algorithm 2, by sorting everything."""

    def __init__(self, ours: schedulers.Scheduler, eta: int):
        self.ours, self.eta = ours, eta
        self.study: Study | None = None
        self.died: set[tuple[int, int]] = set()
        self.promoted: dict[int, set[int]] = {rung: set() for rung in ours.rungs}
        self.picked = 0

    def __getattr__(self, name: str):
        return getattr(self.ours, name)

    def score(self, unit: int, rung: int) -> float:
        return -math.inf if (unit, rung) in self.died else self.study.curves[unit, rung - 1]

    def ended(self, unit: int) -> None:
        # It died on its way: it counts at the next rung as infeasible.
        rung = next((rung for rung in self.rungs if rung >= self.study.reached[unit]), None)
        if rung is not None:
            self.died.add((unit, rung))
            self.study.reached[unit] = rung
        self.ours.ended(unit)

    def rule(self) -> int | None:
        reached = self.study.reached
        for rung in reversed(self.rungs):
            came = sorted((unit for unit in reached if reached[unit] >= rung), key=lambda u: (-self.score(u, rung), u))
            for unit in came[: len(came) // self.eta]:
                if self.score(unit, rung) > -math.inf and unit not in self.promoted[rung]:
                    return unit
        return None

    def resume(self) -> int | None:
        expected, unit = self.rule(), self.ours.resume()
        if expected is None and unit is not None:
            # Nobody runs or is to come, and nobody was trained to the end: the best that waits at the highest rung.
            assert not self.study.running and not self.may_begin() and "done" not in self.study.fate.values()
            highest = max(self.study.reached[other] for other in self.study.waiting)
            assert unit == min(
                (other for other in self.study.waiting if self.study.reached[other] == highest),
                key=lambda other: (-self.score(other, highest), other),
            )
        else:
            assert unit == expected
            self.picked += unit is not None
        if unit is not None:
            self.promoted[self.study.reached[unit]].add(unit)
        return unit


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_promotion_is_the_papers_rule(eta, rng):
    """Which also never picks a unit that ours has dropped."""
    for _ in range(20):
        units = int(rng.integers(20, 60))
        paper = Paper(create("asha_promotion", units if rng.random() < 0.7 else None, eta=eta), eta)
        seed, lanes = int(rng.integers(2**31)), int(rng.integers(1, 6))
        paper.study = Study(paper, random_curves(rng, units, 0.1), seed, lanes, deaths=0.05)
        paper.study.run()
        assert paper.picked


@pytest.mark.parametrize(("eta", "least"), [(2, 1), (3, 1), (3, 2), (4, 3)])
def test_asha_decides_as_optuna_does(eta, least, rng):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for _ in range(10):
        study = optuna.create_study(
            direction="maximize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=eta),
        )
        scheduler = create("asha", None, eta=eta, min_evaluations=least)
        curves = random_curves(rng, 25)
        running = [(unit, study.ask()) for unit in range(25)]
        reached = [0] * 25
        while running:
            unit, trial = running.pop(rng.integers(len(running)))
            reached[unit] += 1
            score = float(curves[unit, reached[unit] - 1])
            trial.report(score, reached[unit])
            stops = scheduler.report(unit, reached[unit], score) is STOP
            assert stops == trial.should_prune()
            if reached[unit] < LAST - 1 and not stops:
                running.append((unit, trial))


def test_median_decides_as_optuna_does_where_the_others_are_constant(rng):
    """Optuna takes others' scores at the evaluation, not their means up to it, and completed trials only."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for _ in range(20):
        grace, others = int(rng.integers(0, 4)), int(rng.integers(1, 12))
        study = optuna.create_study(
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=others, n_warmup_steps=grace + 1),
        )
        # So that none of the others, who have fewer beside them, is stopped.
        scheduler = create("median", None, grace=grace, min_units=others)
        for unit in range(others):
            score = int(rng.integers(0, 20))
            trial = study.ask()
            for evaluation in range(1, LAST + 1):
                trial.report(score, evaluation)
                assert scheduler.report(unit, evaluation, score) is CONTINUE
            study.tell(trial, score)
        trial, decision = study.ask(), CONTINUE
        for evaluation in range(1, LAST):
            score = int(rng.integers(0, 20))
            trial.report(score, evaluation)
            decision = scheduler.report(others, evaluation, score)
            assert (decision is STOP) == trial.should_prune()
            if decision is STOP:
                break


def test_median_against_its_definition(rng):
    for _ in range(20):
        curves, scheduler = random_curves(rng, 30), create("median", None, min_units=3)
        study = Study(scheduler, curves, int(rng.integers(2**31)), int(rng.integers(1, 9))).run()
        came: dict[int, list[int]] = {evaluation: [] for evaluation in range(1, LAST)}
        for unit, evaluation, decision in (entry for entry in study.log if len(entry) == 3):
            if evaluation == LAST:
                continue
            # Sums over the evaluations so far: as many for each, so that they compare as the means do, without rounding.
            sums = [curves[other, :evaluation].sum() for other in came[evaluation]]
            best = curves[unit, :evaluation].max()
            stops = evaluation > 1 and len(sums) >= 3 and best * evaluation < np.median(sums)
            assert (decision is STOP) == stops
            came[evaluation].append(unit)


class Counted(float):
    """A float that counts how often it is compared."""

    compared = 0

    def __neg__(self) -> "Counted":
        return Counted(-float(self))

    def __lt__(self, other) -> bool:
        Counted.compared += 1
        return float(self) < float(other)

    def __eq__(self, other) -> bool:
        Counted.compared += 1
        return float(self) == float(other)

    def __hash__(self) -> int:
        return hash(float(self))


@pytest.mark.parametrize("name", ["asha", "asha_promotion"])
@pytest.mark.parametrize("ascending", [True, False, None])
def test_no_cost_grows_with_the_study(name, ascending, rng):
    scheduler = create(name, None, eta=2, last=2)
    scores = rng.permutation(4096) if ascending is None else np.arange(4096)[:: 1 if ascending else -1]
    for unit, score in enumerate(scores):
        before = Counted.compared
        scheduler.report(unit, 1, Counted(score))
        scheduler.resume()
        # Two binary searches among at most 2^12, and a third to promote; a key is compared twice: equal, less.
        assert Counted.compared - before <= 3 * 2 * 13 + 8
