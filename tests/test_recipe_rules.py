"""The rules of the recipe on curves and numbers made by hand, and on healthy ones drawn at random."""

import math

import numpy as np
import pytest

from hpjax.config import Config
from hpjax.objective import Objective
from hpjax.recipe import batch, curve_rules, diagnosis, finder, range_test, winner
from hpjax.recipe.diagnosis import Curves, diagnose
from hpjax.recipe.finding import Finding, Note, worst
from hpjax.recipe.space import default_space, narrowed
from hpjax.resolve import resolve
from hpjax.study.records import SettingSummary, TrialRecord

CHANCE = math.log(10)


def curves(train, val=None, value=None) -> Curves:
    train = np.asarray(train, float)
    val = train if val is None else np.asarray(val, float)
    value = 1 - val / CHANCE if value is None else np.asarray(value, float)
    return Curves(np.arange(1, len(train) + 1) * 10, train, val, value, CHANCE, 10 * len(train), True)


def rules(found: Curves) -> set[str]:
    return {note.rule for note in diagnose(found) if note.verdict == "warning"}


STEADY = [2.0, 1.2, 0.8, 0.55, 0.4, 0.32, 0.27, 0.24, 0.22, 0.21]


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        (curves([2.3, 2.3, 2.29, 2.3, 2.3, 2.29, 2.3, 2.3]), "flat"),
        (curves([2.3, 2.3, 2.29, 2.28, 2.3, 1.2, 0.6, 0.3, 0.2, 0.19]), "flat_then_falling"),
        (curves([2.0, 1.0, 0.5, 0.4, 0.6, 0.9, 1.2, 1.3], val=STEADY[:8]), "rising"),
        (curves([2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 0.8, 0.6]), "still_improving"),
        (curves([2.0, 1.2, 0.9, 0.85, 0.849, 0.848, 0.848, 0.848, 0.848, 0.848]), "decayed_too_early"),
        (curves(STEADY, val=[1.9, 1.1, 0.8, 0.7, 0.75, 0.85, 0.95, 1.05, 1.15, 1.2]), "overfitting"),
        (curves([2.3, 1.6, 1.4, 1.35, 1.33, 1.32, 1.315, 1.31]), "no_gap"),
        (curves([2.0, 1.0, 1.6, 0.8, 1.5, 0.7, 1.4, 0.7, 1.4, 0.8]), "oscillating"),
        (curves([2.0, 1.2, 0.8, 0.55, 3.5, 0.5, 0.3, 0.25, 0.22, 0.21]), "spikes"),
        (curves(STEADY)._replace(clipped=np.array([1.0] * 7 + [0.5] * 3)), "clipped_too_often"),
        (curves(STEADY, value=[0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7]), "best_step"),
    ],
)
def test_every_rule_sees_its_fault(found, rule):
    assert rule in {note.rule for note in diagnose(found)}
    assert curve_rules is not None and rule in diagnosis.RULES


def test_every_rule_has_a_case():
    marks = test_every_rule_sees_its_fault.pytestmark[0].args[1]
    assert {rule for _, rule in marks} == set(diagnosis.RULES)


def test_healthy_curves_get_no_warning(rng):
    for _ in range(200):
        length = int(rng.integers(5, 30))
        at = np.arange(length)
        rate = rng.uniform(3, 8) / length
        train = CHANCE * rng.uniform(0.85, 1.0) * np.exp(-rate * at) + 0.02
        train *= 1 + rng.normal(size=length) * 0.01
        val = train * rng.uniform(1.05, 1.3) + 0.05
        rarely = np.minimum(rng.exponential(0.1, length), 1.0)
        assert rules(curves(train, val)._replace(clipped=rarely)) == set()


def test_a_curve_that_is_near_its_end_at_once_is_no_cause_for_alarm(rng):
    """As on digits: after an epoch or two nearly all is learned, and one of 359 validation examples is 0.0028."""
    for _ in range(200):
        train = 0.2 * np.exp(-0.4 * np.arange(12)) * rng.uniform(0.7, 1.5, 12)
        val = 0.06 + 0.05 * np.exp(-0.5 * np.arange(12)) + rng.normal(size=12) * 0.008
        right = np.minimum(np.round(359 * (0.97 + 0.02 * (1 - np.exp(-0.4 * np.arange(12)))) + rng.integers(-1, 2, 12)), 359)
        assert rules(curves(train, val, right / 359)) <= {"best_step"}


def test_a_short_or_broken_curve_is_not_judged():
    for train in ([2.0, 1.0], [2.0, math.nan, 1.0, 0.5, 0.4]):
        (note,) = diagnose(curves(train))
        assert note.verdict == "ok" and "too few" in note.evidence


def test_a_lucky_point_is_told_from_a_region(rng):
    objective = Objective("val/accuracy", True, "best")

    def records(values):
        return [TrialRecord(i, i, {}, (), "done", objective=float(v)) for i, v in enumerate(values)]

    lucky = [0.99, 0.6, 0.6, *rng.uniform(0.4, 0.6, 20)]
    (note,) = diagnosis.of_study(records(lucky), objective)
    assert note.verdict == "warning" and "of 23 trials" in note.evidence
    (note,) = diagnosis.of_study(records(lucky), objective, noise=0.5)
    assert note.verdict == "ok"
    (note,) = diagnosis.of_study(records(rng.uniform(0.9, 0.99, 40)), objective)
    assert note.verdict == "ok"
    assert not list(diagnosis.of_study(records([0.5] * 3), objective))


def test_noise_is_what_seeds_of_a_setting_differ_by(rng):
    values = rng.normal(size=(50, 40)) * 0.3 + rng.normal(size=(50, 1)) * 10
    of_seeds = [TrialRecord(0, i, {}, (), "done", objective=float(v)) for i, row in enumerate(values) for v in row]
    assert diagnosis.seed_noise(of_seeds) == pytest.approx(0.3, rel=0.1)
    assert diagnosis.seed_noise(of_seeds[:1]) == 0


def test_the_best_of_n_is_that_of_drawing_again(rng):
    scores = np.sort(rng.normal(size=int(rng.integers(3, 40))))[::-1]
    drawn = scores[rng.integers(len(scores), size=(40_000, len(scores)))].max(1)
    assert diagnosis.expected_best(scores) == pytest.approx(drawn.mean(), abs=5 * drawn.std() / 200)


def test_the_best_of_settings_that_are_the_same_is_too_good_by_no_more_than_theory_says(rng):
    """The mean of the largest of 4 normal numbers is 1.029."""
    alike = [winner.best_of_means(rng.normal(size=(4, 1)) + rng.normal(size=(4, 30)) * 1e-9) for _ in range(3)]
    assert max(alike) < 1e-9
    found = np.mean([winner.best_of_means(noise) for noise in rng.normal(size=(30, 4, 16))])
    assert 0.4 * 1.029 / 4 < found < 1.1 * 1.029 / 4


def test_the_finder_reads_a_known_curve():
    rates = [10.0**k for k in range(-5, 2)]
    ends = [2.29, 2.2, 1.5, 0.4, 0.2, 2.9, math.inf]
    # A ramp whose loss falls fastest, in the logarithm of the rate, at 1e-2, and is lowest at 10 ** -0.5.
    exponents = np.linspace(-5, 0, 101)
    losses = np.where(exponents <= -0.5, 1.3 - np.tanh(2 * (exponents + 2)), 0.3 + 10 * (exponents + 0.5))
    found = range_test.read(rates, ends, 2.3, (10.0**exponents).tolist(), losses.tolist())
    assert (found["best"], found["loss"], found["before"]) == (0.1, 0.2, 2.3)
    assert found["lowest_useful"] == 1e-3 and found["highest_useful"] == 0.1
    assert (found["largest_stable"], found["unstable"]) == (0.1, 1.0)
    # The mean follows nine points late: 0.45 decades.
    assert 10**-2.1 <= found["steepest"] <= 10**-1.4
    assert 10**-1.6 <= found["minimum_tenth"] <= 10**-1.1
    assert finder.worth_trying(found) == (pytest.approx(1e-2 / 3), 0.1)


def test_a_batch_size_pays_as_long_as_it_adds(rng):
    assert batch._paying([16, 64, 256, 1024], [100.0, 220.0, 500.0, 520.0]) == 256
    assert batch._paying([64], [rng.uniform(1, 9)]) == 64
    assert batch._suggested(1024, 300.0, [16, 64, 256, 1024]) == 256
    assert batch._suggested(64, math.nan, [16, 64, 256]) == 64
    assert batch._suggested(256, 2.0, [16, 64, 256]) == 16
    assert batch._sizes(64, 4096) == [16, 64, 256, 1024, 4096]
    assert batch._sizes(100, 300) == [25, 100]
    assert batch.scaled(0.1, Config(optimizer="momentum", batch_size=64), 256) == pytest.approx(0.4)
    assert batch.scaled(0.1, Config(optimizer="adamw", batch_size=64), 256) == pytest.approx(0.2)
    assert batch.scaled(0.1, Config(optimizer="momentum", batch_size=64, lr_scaling="linear"), 256) == 0.1


def one(**values) -> SettingSummary:
    return SettingSummary(0, values, [0], 0.9, math.nan, "done")


def test_a_space_is_narrowed_around_the_good_and_widened_beyond_an_edge():
    config = resolve(Config(optimizer="momentum", dropout_rate=0.1))
    space = {
        "learning_rate": "log(1e-4,1)",
        "momentum": "1-log(1e-2,0.5)",
        "dropout_rate": "uniform(0.01,0.5)",
        "warmup": "choice('0%','5%')",
    }
    good = [one(learning_rate=rate, momentum=m, dropout_rate=d, warmup="0%") for rate, m, d in
            [(0.01, 0.9, 0.2), (0.05, 0.95, 0.25), (0.02, 0.92, 0.3)]]  # fmt: skip
    found = narrowed(space, good, good[0], config)
    assert found["warmup"] == space["warmup"]
    low, high = (float(end) for end in found["learning_rate"][4:-1].split(","))
    assert 1e-4 < low < 0.01 and 0.05 < high < 1
    low, high = (float(end) for end in found["momentum"][6:-1].split(","))
    assert 0.01 < low < 0.05 and 0.1 < high < 0.5
    edge = narrowed(space, good, one(learning_rate=0.99, momentum=0.9, dropout_rate=0.0101, warmup="0%"), config)
    assert float(edge["learning_rate"][4:-1].split(",")[1]) == pytest.approx(10, rel=0.01)
    # Below 0 there is no dropout: the range ends where it did.
    assert float(edge["dropout_rate"][8:-1].split(",")[0]) == pytest.approx(0.01)


def test_the_default_space_has_what_the_optimizer_has():
    space = default_space(resolve(Config(optimizer="adamw", dropout_rate=0.1)), 1e-4, 0.1)
    assert list(space) == ["learning_rate", "beta1", "weight_decay", "warmup", "dropout_rate"]
    assert space["learning_rate"] == "log(0.0001,0.1)"
    assert list(default_space(resolve(Config(optimizer="sgd")), 1e-4, 0.1)) == [
        "learning_rate",
        "weight_decay",
        "warmup",
        "dropout_rate",
    ]


def test_a_finding_comes_back_from_json(rng):
    note = Note("rule", "warning", "seen", "remedy")
    tables = {"t": {"a": [1, 2.5, math.nan, math.inf], "b": ["x", None, "y", "z"]}}
    found = Finding("lr", (note,), {"learning_rate": "0.1"}, "advice", True, tables, {"x": np.float32(rng.normal())}, 1.5)
    back = Finding.from_json(found.to_json())
    assert back.notes == found.notes and back.settings == found.settings and back.stops
    np.testing.assert_array_equal(back.tables["t"]["a"], tables["t"]["a"])
    assert back.tables["t"]["b"] == tables["t"]["b"]
    assert back.facts["x"] == found.facts["x"]
    assert worst(["ok", "failed", "warning"]) == "failed" and worst([]) == "ok"
