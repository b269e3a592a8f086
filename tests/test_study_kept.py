"""The parameters of a study's best trials: which are kept, that they are the trials' own, through resume and extension."""

import json
import math
import shutil

import jax
import numpy as np
import pytest

import hpjax
from hpjax import build, resolve
from hpjax.errors import ConfigError, RunFolderError
from hpjax.initial import load as load_initial
from hpjax.interrupt import Interrupt
from hpjax.objective import Evaluation, Objective
from hpjax.study import snapshot
from hpjax.study.kept import Kept, Results, like_kept
from hpjax.study.records import Measured, TrialRecord
from hpjax.study.study import load_study
from test_identity import assert_same_bits
from test_study_engine import BASE, engine_of, run
from test_sweep import run as command
from test_sweep import words

QUIET = BASE.replace(progress=False, tensorboard=False)

# Which are kept: trials of made-up curves, whose parameters are the numbers of trial and evaluation.


class Curves:
    """Trials that are evaluated and end as they are told to."""

    def __init__(self, most, objective="val/accuracy:max", value="best"):
        name, _, direction = objective.partition(":")
        self.objective = Objective(name, direction == "max", value)
        self.kept = Kept(most, self.objective)
        self.records = []

    def evaluate(self, number, value, ends=False, status="done"):
        while len(self.records) <= number:
            self.records.append(TrialRecord(len(self.records), len(self.records), {}, status="running"))
        record = self.records[number]
        at = len(record.curve) + 1
        record.curve.append(Measured(at, at, value, {}))
        seen = [Evaluation(m.tick, m.value) for m in record.curve]
        record.objective = self.objective.of_run(seen)
        lanes = {"params": {"w": np.array([[-1.0], [100.0 * number + at]])}, "collections": {}}
        self.kept.evaluated(record, seen, ends, Results(lanes), 1)
        if ends:
            self.end(number, status)

    def end(self, number, status="done"):
        self.records[number].status = status
        if status == "diverged":
            self.records[number].objective = math.nan
        self.kept.ended(self.records[number])

    def found(self):
        return {number: tree["params"]["w"].item() for number, tree in self.kept.best.items()}


def test_the_parameters_are_those_of_the_evaluation_that_counts():
    trials = Curves(2)
    trials.evaluate(0, 0.5)
    trials.evaluate(0, 0.9)
    trials.evaluate(0, 0.7, ends=True)
    assert trials.found() == {0: 2}
    trials.evaluate(1, 0.95, ends=True)
    trials.evaluate(2, 0.9, ends=True)
    # Of equal ones the first; the best first.
    assert trials.found() == {1: 101, 0: 2}
    trials.evaluate(3, 0.91, ends=True)
    assert trials.found() == {1: 101, 3: 301}


@pytest.mark.parametrize(("value", "found"), [("last", {1: 102, 0: 2}), ("smoothed", {0: 2, 1: 102})])
def test_other_values_are_known_at_the_end(value, found):
    trials = Curves(2, "val/loss:min", value)
    for number, curve in enumerate(((0.5, 0.2), (0.9, 0.1))):
        trials.evaluate(number, curve[0])
        assert not json.loads(json.dumps(trials.kept.facts())) or number
        trials.evaluate(number, curve[1], ends=True)
    assert trials.found() == found
    assert list(trials.found()) == list(found)


def test_a_trial_that_does_not_come_to_its_end_pushes_nobody_out():
    trials = Curves(1)
    trials.evaluate(0, 0.5, ends=True)
    for number, status in enumerate(("diverged", "stopped"), 1):
        trials.evaluate(number, 0.9)
        assert trials.found() == {0: 1}
        trials.end(number, status)
        assert trials.found() == {0: 1}
        assert len(trials.kept.tree()) == 1
    trials.evaluate(3, 0.6)
    trials.evaluate(3, 0.55, ends=True)
    assert trials.found() == {3: 301}


def test_memory_is_bounded():
    """What can no longer be among the best is let go while its trial goes on."""
    trials = Curves(1)
    trials.evaluate(0, 0.8)
    trials.evaluate(1, 0.9, ends=True)
    for number in range(2, 50):
        trials.evaluate(number, 0.7)
    assert set(trials.kept.tree()) == {"0", "1"}
    trials.evaluate(0, math.nan)
    trials.evaluate(0, 0.85)
    assert set(trials.kept.tree()) == {"1"}


def test_what_is_kept_goes_through_json_and_arrays():
    trials = Curves(1)
    trials.evaluate(0, 0.5, ends=True)
    trials.evaluate(1, 0.9)
    facts = json.loads(json.dumps(trials.kept.facts()))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), like_kept(facts)) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), trials.kept.tree()
    )
    other = Kept(1, trials.objective)
    other.load(trials.kept.tree(), facts, trials.records)
    assert other.facts() == trials.kept.facts()
    assert other.best == trials.kept.best


# Whole studies.

VARY = {"learning_rate": "log(1e-3,1e-1)", "hidden_sizes": "choice('16','8')", "seed": "range(2)"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "study"
    config = QUIET.replace(keep_best=3, ema_decay=0.9, early_stopping_patience=1)
    return hpjax.run_sweep(config, VARY, trials=12, lanes=4, study=folder)


def params_of(study, number, folder):
    config = study.config.replace(**study.records[number].values, run_dir=folder, lane_devices=2, devices="1")
    return hpjax.run(config).params


def test_they_are_those_of_the_trials_trained_alone(study, tmp_path):
    best = sorted(study.records, key=lambda record: (-record.objective, record.number))[:3]
    winner = study.facts["best"]["trial"]
    assert study.kept == [winner, *(record.number for record in best if record.number != winner)]
    assert len({path.name for path in (study.path / "params").iterdir()}) == len(study.kept)
    for number in study.kept:
        assert_same_bits(study.variables(number)["params"], params_of(study, number, tmp_path / str(number)))
    assert_same_bits(study.best_params, study.variables(winner)["params"])


def test_a_run_begins_with_the_winner(study):
    config = study.best_config
    dataset = build.load(config)
    found = load_initial(str(study.path), build.variables(build.trial(config, dataset), dataset))
    assert_same_bits(found.variables["params"], study.best_params)
    other = str(study.path / "params" / str(study.kept[-1]))
    config = resolve.resolve(study.config.replace(**study.records[study.kept[-1]].values))
    found = load_initial(other, build.variables(build.trial(config, dataset), dataset))
    assert_same_bits(found.variables["params"], study.variables(study.kept[-1])["params"])


def test_fine_tuning_from_a_study(study, tmp_path):
    config = study.best_config.replace(init_from=study.path, learning_rate=1e-12, run_dir=tmp_path / "run")
    for one, other in zip(jax.tree.leaves(hpjax.run(config).params), jax.tree.leaves(study.best_params), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_is_not_kept_is_said(study, tmp_path):
    other = next(record.number for record in study.records if record.number not in study.kept)
    with pytest.raises(ConfigError, match=f"trial {other}'s parameters are not kept; expected one of {study.kept[0]}"):
        study.variables(other)
    folder = shutil.copytree(study.path, tmp_path / "copy")
    facts = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**facts, "status": "preempted", "kept": []}))
    with pytest.raises(RunFolderError, match="has no parameters; expected a study that has ended"):
        load_study(folder).variables()
    assert command(*words((f"learning_rate={VARY['learning_rate']}",), init_from=folder, study=tmp_path / "x"))[::2] == (
        2,
        f"hpjax.sweep: init_from '{folder}' has no winner; expected a study that has ended with a best setting\n",
    )


def test_an_extension_goes_on_with_them(study, tmp_path):
    folder = shutil.copytree(study.path, tmp_path / "study")
    config = QUIET.replace(keep_best=3, ema_decay=0.9, early_stopping_patience=1)
    whole = hpjax.run_sweep(config, VARY, trials=20, lanes=4, study=tmp_path / "whole")
    longer = load_study(folder).extend(trials=8)
    assert longer.kept == whole.kept
    for number in whole.kept:
        assert_same_bits(longer.variables(number), whole.variables(number))


@pytest.mark.parametrize("scheduler", ["none", "asha_promotion"])
def test_going_on_from_any_snapshot_keeps_the_same(rng, scheduler):
    config = BASE.replace(train_steps="27", eval_every="3", keep_best=2)
    study = {"vary": ("learning_rate=log(1e-4,1e30)", "seed=range(2)"), "trials": 16, "lanes": "4", "scheduler": scheduler}
    whole, _, _ = engine_of(config, **study)
    run(whole)
    assert len(whole.kept.best) == 2
    looks = sum(1 for _ in engine_of(config, **study)[0].run(Interrupt(False)))
    for stop in rng.choice(looks - 1, 2, replace=False).tolist():
        first, _, _ = engine_of(config, **study)
        running = first.run(Interrupt(False))
        for _ in range(stop + 1):
            next(running)
        tree, facts = snapshot.take(first)
        tree, facts = jax.tree.map(np.copy, tree), json.loads(json.dumps(facts))
        second, _, _ = engine_of(config, **study)
        like = snapshot.like(second, facts, [TrialRecord(**{**vars(r), "curve": list(r.curve)}) for r in first.records])
        assert jax.tree.map(np.shape, like) == jax.tree.map(np.shape, tree)
        snapshot.take_up(second, tree, facts)
        run(second)
        assert_same_bits(second.kept.best, whole.kept.best)
