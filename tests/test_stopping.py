"""Early stopping: when a run stops, and that a run stopped early is like any other: resumed, closed, read again."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpjax
import whole_runs as runs
from hpjax import result
from hpjax.objective import Evaluation, Objective
from hpjax.stopping import EarlyStopping

NAN = math.nan


def stops(values: list[float], direction: str = "max", **settings: Any) -> int | None:
    """Returns the number of the evaluation, from 1, at which a run stops."""
    objective = Objective("val/x", direction == "max", "best")
    tick = EarlyStopping(**settings).stops_at(objective, [Evaluation(10 * (i + 1), v) for i, v in enumerate(values)])
    return None if tick is None else tick // 10


@pytest.mark.parametrize(
    ("settings", "values", "stop"),
    [
        ({"patience": None}, [1.0] * 9, None),
        ({"patience": 1}, [1.0, 2.0, 3.0], None),
        ({"patience": 1}, [1.0, 1.0], 2),  # equal is no improvement
        ({"patience": 2}, [1.0, 0.5, 0.9], 3),
        ({"patience": 2}, [1.0, 0.5, 1.1, 1.0, 1.05], 5),  # an improvement counts anew
        ({"patience": 2}, [1.0, 0.5, 1.1, 1.0], None),
        ({"patience": 2, "direction": "min"}, [1.0, 0.5, 0.6, 0.5], 4),
        ({"patience": 2, "min_delta": 0.25}, [1.0, 1.125, 1.25, 1.375], 3),  # by as much as delta is not by more
        ({"patience": 2, "min_delta": 0.25}, [1.0, 1.125, 1.375, 1.5], None),
        ({"patience": 2, "min_delta": 0.25, "direction": "min"}, [1.0, 0.75, 0.75], 3),
        ({"patience": 1, "min_ticks": 40}, [1.0, 1.0, 1.0, 1.0], 4),
        ({"patience": 1, "min_ticks": 40}, [1.0, 1.0, 1.0, 2.0], None),
        ({"patience": 1, "min_ticks": 41}, [1.0] * 4, None),
        ({"patience": 2}, [NAN, NAN], 2),
        ({"patience": 2}, [1.0, NAN, 0.5], 3),
        ({"patience": 2}, [NAN, 1.0, NAN, 2.0], None),
        # The first value counts as an improvement whatever it is.
        ({"patience": 2, "min_delta": 9.0}, [NAN, -50.0, -45.0, -41.0], 4),
        ({"patience": 2}, [-math.inf, -math.inf, 1.0], 2),
        ({"patience": 1, "direction": "min"}, [math.inf, 3.0, 2.0], 1),
    ],
)
def test_when_it_stops(settings: dict[str, Any], values: list[float], stop: int | None) -> None:
    assert stops(values, **settings) == stop
    # What it says does not change as evaluations come in.
    for n in range(1, len(values) + 1):
        assert stops(values[:n], **settings) == (stop if stop is not None and n >= stop else None)


# The rate is so small that nothing changes: the first evaluation is the best.
STALLED = {"learning_rate": 1e-12, "early_stopping_patience": 2, "objective": "val/accuracy:max"}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / "run"
    hpjax.run(runs.config(folder, **STALLED))
    return folder


def test_a_run_that_stops_early(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = runs.metadata(stopped)
    assert (facts["status"], facts["step"], facts["stopped_at"], facts["diverged_at"]) == ("done", 30, 30, None)
    assert facts["best"]["step"] == facts["chosen_tick"] == 10
    steps = [line["step"] for line in runs.lines(stopped)]
    # The device was a chunk ahead; nothing of it is written. The last line is the test split's.
    assert steps == [5, 10, 10, 15, 20, 20, 25, 30, 30, 30]
    assert {int(path.name) for path in (stopped / "checkpoints").iterdir()} == {10, 25, 30}
    # Read again it is the same, and nothing is trained.
    monkeypatch.setattr(hpjax.runner, "_train", None)
    again = hpjax.run(runs.config(stopped, **STALLED))
    assert (again.status, again.stopped_at, again.best["step"]) == ("done", 30, 10)
    assert again.test == facts["test"] != {}


def test_min_steps_let_it_go_on(tmp_path: Path) -> None:
    found = hpjax.run(runs.config(tmp_path / "run", **STALLED, early_stopping_min_steps="75%", micro_batch_size=32))
    assert (found.stopped_at, runs.metadata(tmp_path / "run")["step"]) == (30, 30)
    found = hpjax.run(runs.config(tmp_path / "other", **STALLED, early_stopping_min_steps="31"))
    assert (found.stopped_at, found.history[-1]["step"]) == (40, 40)


@pytest.mark.parametrize("tick", [20, 25, 30, 35])
def test_killed_before_the_stop(stopped: Path, tmp_path: Path, tick: int) -> None:
    folder = tmp_path / "run"
    with runs.killed_before(tick):
        hpjax.run(runs.config(folder, **STALLED))
    assert hpjax.run(runs.config(folder, **STALLED)).stopped_at == 30
    runs.assert_same(folder, stopped)


def test_killed_after_the_stop(stopped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def kill(*args: Any) -> None:
        raise runs.Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(runs.Killed):
        patch.setattr(result, "finish", kill)
        hpjax.run(runs.config(folder, **STALLED))
    assert runs.metadata(folder)["status"] == "failed"
    assert hpjax.run(runs.config(folder, **STALLED)).stopped_at == 30
    runs.assert_same(folder, stopped)


def test_the_parameters_are_those_of_the_stop(tmp_path: Path) -> None:
    """Not those of the chunk that the device had already done."""
    stopping = {**STALLED, "learning_rate": 0.05, "early_stopping_min_delta": 0.9, "objective_value": "last"}
    early = hpjax.run(runs.config(tmp_path / "early", **stopping))
    assert early.stopped_at == 30
    plain = hpjax.run(runs.config(tmp_path / "plain", learning_rate=0.05, train_steps="30", objective_value="last"))
    for name, layer in plain.params.items():
        for leaf in layer:
            np.testing.assert_array_equal(early.params[name][leaf], layer[leaf])
    assert early.test == plain.test
