"""The text at a study's end, by hand-worked cases, and Welch's interval against SciPy."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hpjax.objective import Objective
from hpjax.study import summary
from hpjax.study.records import Status, TrialRecord
from hpjax.study.table import group

ACCURACY = Objective("val/accuracy", True, "best")
LOSS = Objective("val/loss", False, "last")


def trial(number: int, setting: int, objective: float, status: Status = "done", **values: Any) -> TrialRecord:
    return TrialRecord(number, setting, values, (), status, objective=objective)


def told(
    records: list[TrialRecord], path: Path, objective: Objective = ACCURACY, aggregate: str = "mean", **facts: Any
) -> list[str]:
    return summary.text(records, group(records, objective, aggregate), objective, facts, path).splitlines()


def test_the_whole_text(tmp_path: Path) -> None:
    for name in ("trials.csv", "best.flags"):
        (tmp_path / name).touch()
    records = [
        # Mean 0.9, squares 0.0001 twice: standard deviation sqrt(0.0002 / 1) = 0.01414.
        trial(0, 0, 0.89, learning_rate=0.1, optimizer="adamw", seed=0),
        trial(1, 0, 0.91, learning_rate=0.1, optimizer="adamw", seed=1),
        # Mean 0.5, the same spread. Error sqrt(2 * 0.0002 / 2) = 0.01414, 2 degrees of freedom: t = 4.3027, reach 0.06085.
        trial(2, 1, 0.49, learning_rate=1.0, optimizer="sgd", seed=0),
        trial(3, 1, 0.51, learning_rate=1.0, optimizer="sgd", seed=1),
        trial(4, 2, math.nan, "diverged", learning_rate=9.0, optimizer="sgd", seed=0),
        trial(5, 2, 0.3, "stopped", learning_rate=9.0, optimizer="sgd", seed=1),
    ]
    facts = {
        "seconds": 1.5,
        "occupancy": 0.964,
        "late": 0.012,
        "edges": ["learning_rate (lowest)"],
        "repeats": True,
        "test": {"test/accuracy": 0.88},
    }
    assert told(records, tmp_path, **facts) == [
        "best of 3 settings: setting 0, best val/accuracy 0.9, standard deviation 0.014 over 2 trials (0.89 to 0.91)",
        "  learning_rate  0.1",
        "  optimizer      adamw",
        "second: setting 1, best val/accuracy 0.5, standard deviation 0.014 over 2 trials (0.49 to 0.51)",
        "  better by 0.4, beyond seed noise (95 % interval of the difference: 0.34 to 0.46)",
        "at the edge of what was searched: learning_rate (lowest); better values may lie beyond",
        "test split, read once with the winner: test/accuracy 0.88",
        "6 trials: 4 done, 1 stopped, 1 diverged; 1.5 s, 4.00 trials/s; lanes busy 96.4%; "
        "1.2% of it after a decision to stop",
        f"{tmp_path}:",
        "  trials.csv  one row a trial",
        "  best.flags  python -m hpjax.train --flagfile=THIS trains the winner again",
    ]


def test_a_difference_within_the_noise_is_called_so(tmp_path: Path) -> None:
    # Means 0.9 and 0.895, each with 0.014 of spread: error 0.01414, reach 0.06085.
    records = [trial(0, 0, 0.89), trial(1, 0, 0.91), trial(2, 1, 0.885), trial(3, 1, 0.905)]
    assert any(
        line == "  better by 0.005, within seed noise: these seeds cannot tell the two apart "
        "(95 % interval of the difference: -0.056 to 0.066)"
        for line in told(records, tmp_path)
    )


def test_where_medians_count_their_difference_is_said(tmp_path: Path) -> None:
    # Medians 0.9 and 0.8, means 0.7 and 0.8.
    records = [trial(i, i // 3, value) for i, value in enumerate([0.9, 0.9, 0.3, 0.8, 0.79, 0.81])]
    lines = told(records, tmp_path, aggregate="median")
    assert lines[0].startswith("best of 2 settings: setting 0, best val/accuracy 0.9,")
    assert any(line.startswith("  better by 0.1 (medians; the means differ by -0.1), within seed noise") for line in lines)


def test_a_study_without_a_winner_promises_no_parameters(tmp_path: Path) -> None:
    (tmp_path / "params").mkdir()
    assert not any("params" in line for line in told([trial(0, 0, math.nan, "diverged")], tmp_path))
    assert any("params" in line for line in told([trial(0, 0, 0.5)], tmp_path))


def test_less_may_be_better_and_one_seed_tells_nothing_of_noise(tmp_path: Path) -> None:
    lines = told([trial(0, 0, 0.5), trial(1, 1, 0.2)], tmp_path, LOSS)
    assert lines[0] == "best of 2 settings: setting 1, last val/loss 0.2 (1 trial)"
    assert lines[1] == "second: setting 0, last val/loss 0.5 (1 trial)"
    assert lines[2] == "  better by 0.3; with one seed the noise is unknown: vary seed=range(n) to learn it"


@pytest.mark.parametrize("status", ["diverged", "waiting"])
def test_a_study_without_a_value(tmp_path: Path, status: Status) -> None:
    lines = told([trial(0, 0, math.nan, status)], tmp_path, repeats=False)
    assert lines == [
        "no setting has a value: every trial diverged or was not evaluated",
        f"1 trial: 1 {status}",
        "warning: the winner, trained again by itself, did not give the same bits",
        str(tmp_path),
    ]
    assert told([], tmp_path)[1] == "0 trials"


def test_a_winner_that_was_not_at_its_end_is_called_so(tmp_path: Path) -> None:
    lines = told([trial(0, 0, 0.5, "stopped"), trial(1, 1, 0.6, "stopped")], tmp_path)
    assert lines[1] == "  not at its end (stopped): no setting with a value has all its trials done"


def test_a_setting_that_was_stopped_is_no_match_for_one_that_was_not(tmp_path: Path) -> None:
    lines = told([trial(0, 0, 0.5), trial(1, 1, 0.6, "stopped")], tmp_path)
    assert lines[0].startswith("best of 2 settings: setting 0,")
    assert not any(line.startswith("second") for line in lines)


@pytest.mark.parametrize("objective", [ACCURACY, LOSS])
def test_welchs_interval_is_scipys(rng: np.random.Generator, objective: Objective) -> None:
    for _ in range(50):
        first = rng.normal(rng.normal(), rng.uniform(0.1, 2), int(rng.integers(2, 9))).tolist()
        second = rng.normal(rng.normal(), rng.uniform(0.1, 2), int(rng.integers(2, 9))).tolist()
        found = summary.difference(first, second, objective)
        better, worse = (first, second) if objective.maximise else (second, first)
        expected = stats.ttest_ind(better, worse, equal_var=False).confidence_interval(0.95)
        assert found.value == pytest.approx(np.mean(better) - np.mean(worse), rel=1e-9, abs=1e-12)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-9)


def test_the_same_value_from_every_seed_has_no_noise() -> None:
    assert summary.difference([0.5, 0.5], [0.25, 0.25], ACCURACY) == (0.25, 0.25, 0.25)
    assert summary.difference([0.5, 0.5], [0.25, 0.25], LOSS) == (-0.25, -0.25, -0.25)
