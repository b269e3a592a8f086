"""The table of a study's trials, and its settings over their seeds, by hand-worked numbers."""

import csv
import errno
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpjax.errors import ConfigError, RunFolderError
from hpjax.objective import Objective
from hpjax.study import table
from hpjax.study.records import Measured, SettingSummary, Status, TrialRecord
from study_records import trials

ACCURACY = Objective("val/accuracy", True, "best")
LOSS = Objective("val/loss", False, "best")


def trial(number: int, setting: int, objective: float, status: Status = "done", **values: Any) -> TrialRecord:
    return TrialRecord(number, setting, values, (), status, objective=objective)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# The table.


def test_a_row_has_the_last_and_the_best_evaluation(tmp_path: Path) -> None:
    curve = [
        Measured(10, 5, 0.3, {"val/accuracy": 0.3, "val/loss": 1.5}),
        Measured(20, 10, 0.7, {"val/accuracy": 0.7, "val/loss": 0.9}),
        Measured(30, 15, 0.6, {"val/accuracy": 0.6, "val/loss": 0.8}),
    ]
    values = {"learning_rate": 0.1, "hidden_sizes": (64, 32), "nesterov": True, "optimizer": "sgd", "seed": 3}
    done = TrialRecord(0, 0, values, (0.5,), "done", curve, 0.7, None, 1.0, 3.5)
    diverged = TrialRecord(1, 1, {"learning_rate": 1.0, "seed": 0}, (0.9,), "diverged", [], math.nan, 7, 1.5, 2.0)
    table.write_csv(tmp_path / "trials.csv", [done, diverged], ACCURACY)
    first, second = rows(tmp_path / "trials.csv")
    assert first == {
        "number": "0",
        "setting": "0",
        "status": "done",
        "learning_rate": "0.1",
        "hidden_sizes": "64,32",
        "nesterov": "true",
        "optimizer": "sgd",
        "seed": "3",
        "objective": "0.7",
        "best_step": "10",
        "val/accuracy": "0.6",
        "val/loss": "0.8",
        "best/val/accuracy": "0.7",
        "best/val/loss": "0.9",
        "diverged_at": "",
        "seconds": "2.5",
    }
    assert {name: text for name, text in second.items() if text} == {
        "number": "1",
        "setting": "1",
        "status": "diverged",
        "learning_rate": "1.0",
        "seed": "0",
        "objective": "nan",
        "diverged_at": "7",
        "seconds": "0.5",
    }
    # Of equal evaluations the first is the best.
    equal = [m._replace(value=0.5) for m in curve]
    assert table.columns([TrialRecord(0, 0, {}, curve=equal)], ACCURACY)["best_step"] == [5]
    # Less is better: the last evaluation is the best one.
    least = [m._replace(value=m.numbers["val/loss"]) for m in curve]
    found = table.columns([TrialRecord(0, 0, {}, curve=least)], LOSS, ["learning_rate"])
    assert (found["best_step"], found["best/val/loss"], found["learning_rate"]) == ([15], [0.8], [None])


def test_numbers_are_read_back_bit_for_bit(tmp_path: Path, rng: np.random.Generator) -> None:
    records = trials(rng, 50, diverged=0.3)
    table.write_csv(tmp_path / "trials.csv", records, ACCURACY)
    found = rows(tmp_path / "trials.csv")
    expected = table.columns(records, ACCURACY)
    assert list(found[0]) == list(expected)
    for name, values in expected.items():
        for row, value in zip(found, values, strict=True):
            assert row[name] == "" if value is None else type(value)(row[name]) == value or math.isnan(value), name


def test_a_study_without_trials_has_a_head(tmp_path: Path) -> None:
    table.write_csv(tmp_path / "trials.csv", [], ACCURACY, ["learning_rate"])
    text = (tmp_path / "trials.csv").read_text()
    assert text == "number,setting,status,learning_rate,objective,best_step,diverged_at,seconds\n"


def test_a_table_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "trials.csv"
    table.write_csv(path, [trial(0, 0, 0.5)], ACCURACY)
    before = path.read_text()

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFolderError, match="the disk is full"):
        table.write_csv(path, [trial(0, 0, 0.6)], ACCURACY)
    assert path.read_text() == before
    assert [one.name for one in tmp_path.iterdir()] == ["trials.csv"]


def test_without_pandas_a_data_frame_says_what_to_do(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"dataframe needs pandas, which is not installed; expected `pip install pandas`"):
        table.dataframe([], ACCURACY)


def test_a_data_frame_has_the_columns(rng: np.random.Generator) -> None:
    pytest.importorskip("pandas")
    records = trials(rng, 3)
    frame = table.dataframe(records, ACCURACY)
    assert list(frame.columns) == list(table.columns(records, ACCURACY))
    assert frame["number"].tolist() == list(range(6))


# Settings over their seeds.


def test_mean_median_and_spread_by_hand() -> None:
    records = [
        # Mean (0.5 + 0.6 + 1.0) / 3 = 0.7; squares of the differences 0.04 + 0.01 + 0.09 = 0.14; sqrt(0.14 / 2) = 0.26458.
        trial(0, 0, 0.5, learning_rate=0.1, seed=0, fold=1),
        trial(3, 0, 1.0, learning_rate=0.1, seed=2, fold=1),
        trial(1, 0, 0.6, learning_rate=0.1, seed=1, fold=1),
        # One trial has no spread.
        trial(2, 1, 0.9, learning_rate=0.2, seed=0),
    ]
    first, second = table.group(records, ACCURACY, "mean")
    assert (first.setting, first.values, first.numbers, first.status) == (0, {"learning_rate": 0.1}, [0, 1, 3], "done")
    assert first.value == pytest.approx(0.7, rel=1e-15)
    assert first.spread == pytest.approx(0.26457513110645906, rel=1e-15)
    assert (second.setting, second.value, second.numbers) == (1, 0.9, [2])
    assert math.isnan(second.spread)
    assert table.group(records, ACCURACY, "median")[0].value == 0.6


def test_one_infeasible_trial_makes_its_setting_infeasible() -> None:
    records = [
        trial(0, 0, 0.5),
        trial(1, 0, math.nan, "diverged"),
        trial(2, 0, math.nan, "stopped"),
        trial(3, 1, 0.4),
        trial(4, 1, 0.3, "stopped"),
        trial(5, 2, 0.2),
        trial(6, 2, math.nan, "waiting"),
        # A trial may have had good values before it diverged.
        trial(7, 3, 0.99, "diverged"),
    ]
    found = table.group(records, ACCURACY, "mean")
    assert [one.status for one in found] == ["diverged", "stopped", "waiting", "diverged"]
    assert [math.isnan(one.value) for one in found] == [True, False, True, True]
    assert [math.isnan(one.spread) for one in found] == [True, False, True, True]


@pytest.mark.parametrize("aggregate", ["mean", "median"])
def test_groups_agree_with_numpy(rng: np.random.Generator, aggregate: Any) -> None:
    records = trials(rng, 20, 5, diverged=0.0)
    order = rng.permutation(len(records))
    for one in table.group([records[i] for i in order], ACCURACY, aggregate):
        values = [records[i].objective for i in one.numbers]
        assert one.numbers == list(range(5 * one.setting, 5 * one.setting + 5))
        assert one.value == pytest.approx(np.mean(values) if aggregate == "mean" else np.median(values), rel=1e-14)
        assert one.spread == pytest.approx(np.std(values, ddof=1), rel=1e-10)
        assert one.spread == statistics.stdev(values)


def summary(setting: int, value: float, status: Status = "done") -> SettingSummary:
    return SettingSummary(setting, {}, [setting], value, math.nan, status)


def test_the_best_setting() -> None:
    found = [summary(0, math.nan, "diverged"), summary(1, 0.7), summary(2, 0.8), summary(3, 0.8), summary(4, 0.2)]
    assert table.best(found, ACCURACY) == found[2], "of equals the first"
    assert table.best(found[::-1], ACCURACY) == found[2], "whatever the order"
    assert table.best(found, LOSS) == found[4]
    # A value at a part of the budget does not beat one at the whole, but counts where there is no other.
    partial = [summary(0, 0.9, "stopped"), summary(1, 0.7), summary(2, 0.95, "running")]
    assert table.best(partial, ACCURACY) == partial[1]
    assert table.best([partial[0], partial[2]], ACCURACY) == partial[2]
    assert table.best([found[0]], ACCURACY) is None
    assert table.best([], ACCURACY) is None
