"""The winner of a study, trained once more by itself: the check that it repeats, and the test split."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from hpjax import evaluation
from hpjax.data import Dataset
from hpjax.objective import Evaluation, Objective
from hpjax.study.group import Group
from hpjax.study.kept import Results
from hpjax.study.plan import Plan
from hpjax.study.records import TrialRecord


class Winner(NamedTuple):
    """What training the winner again gave.

    Attributes:
      repeats: whether its measure there is the study's, bit for bit; None without a validation split to measure it on.
      test: loss and metrics over the test split; empty if there is none.
      result: its parameters and other variables there.
    """

    repeats: bool | None
    test: dict[str, float]
    result: dict[str, Any]


def again(group: Group, plan: Plan, record: TrialRecord, objective: Objective, dataset: Dataset) -> Winner:
    """Trains a trial of a finished study again, alone in the first lane, and reads the test split with it.

    Args:
      group: its compile group; the trials in its lanes are lost.
      plan: how it runs.
      record: what the study knows of it; it has an evaluation.
      objective: says which evaluation counts.
      dataset: the data.
    """
    chosen = objective.chosen_tick([Evaluation(m.tick, m.value) for m in record.curve])
    fold = plan.config.fold
    lane = group.alone(record.number, plan)
    numbers: dict[str, Any] = {}
    results: Any = None
    for measured in record.curve:
        issued = group.issue(plan.end, lambda number, done: False)
        results = issued.results
        if issued.measured is not None:
            of_lane = {name: value[lane] for name, value in jax.device_get(issued.measured).items()}
            numbers, _ = evaluation.finish(of_lane, dataset.held_out(fold)[1], dataset.unit(fold))
        if measured.tick == chosen:
            break
    repeats = all(_same(numbers[name], measured.numbers[f"val/{name}"]) for name in numbers) if numbers else None
    test: dict[str, float] = {}
    if dataset.splits["test"][1] > 0:
        found = jax.device_get(group.evaluate(dataset.splits["test"]))
        finished, _ = evaluation.finish(
            {name: value[lane] for name, value in found.items()}, dataset.splits["test"][1], dataset.target_scale
        )
        test = {f"test/{name}": value for name, value in finished.items() if math.isfinite(value)}
    return Winner(repeats, test, Results(results, group.program).of(lane))


def over_test(group: Group, results: Sequence[Any], dataset: Dataset) -> list[dict[str, float]]:
    """Returns loss and metrics over the test split by name, of each of some kept results.

    Args:
      group: a compile group of their trials.
      results: what `Trial.result` gave, NumPy.
      dataset: the data.
    """
    split = dataset.splits["test"]
    rows = [evaluation.finish(one, split[1], dataset.target_scale)[0] for one in group.measure(results, split)]
    return [{f"test/{name}": value for name, value in row.items() if math.isfinite(value)} for row in rows]


def _same(one: float, other: float) -> bool:
    return bool(np.float64(one).tobytes() == np.float64(other).tobytes())
