"""Callbacks: called where something is due and nowhere else, shown what was measured, able to change nothing."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpjax
import whole_runs as runs
from hpjax import loop, train
from hpjax.callbacks import CALLBACKS, ChunkEnd

# Three lengths that seldom meet, and an end that none of them divides.
UNEVEN = {"train_steps": "35", "log_every": "8", "eval_every": "10", "checkpoint_every": "15", "micro_batch_size": 32}
STEPS = [8, 10, 15, 16, 20, 24, 30, 32, 35]
EVALUATED = [10, 20, 30, 35]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module 'my_callbacks' for the time of a test."""
    found = types.ModuleType("my_callbacks")
    monkeypatch.setitem(sys.modules, "my_callbacks", found)
    monkeypatch.setattr(CALLBACKS, "_entries", {})
    monkeypatch.setattr(CALLBACKS, "_imported", {})
    return found


@pytest.mark.parametrize("seconds", [1e-9, 1e9])
def test_called_where_something_is_due(
    tmp_path: Path, module: types.ModuleType, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    seen: list[ChunkEnd] = []
    order: list[str] = []
    module.look = lambda end: (seen.append(end), order.append("look"))
    module.also = lambda end: order.append("also")
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_LOOKS", seconds)
    config = runs.config(tmp_path / "run", **UNEVEN, callback=("my_callbacks:look", "my_callbacks:also"))
    found = hpjax.run(config)
    assert [end.step for end in seen] == STEPS
    assert {end.train_steps for end in seen} == {35}
    assert order == ["look", "also"] * len(STEPS)
    logged = {}
    for line in found.history:
        logged.setdefault(line["step"], {}).update(line)
    for end in seen:
        assert int(end.state.tick) == 2 * end.step
        assert ("val/loss" in end.metrics) == (end.step in EVALUATED)
        same = {name: value for name, value in logged.get(end.step, {}).items() if name in end.metrics}
        assert same == {name: end.metrics[name] for name in same}
        assert end.step not in EVALUATED or set(same) >= {"val/loss", "val/accuracy"}
    # The state is that of the step, though the device had gone on.
    np.testing.assert_array_equal(seen[-1].state.params["Dense_1"]["bias"], runs_params(tmp_path / "run", 70))


def runs_params(folder: Path, tick: int) -> np.ndarray:
    return hpjax.checkpoints.read(folder / "checkpoints" / str(tick))["params"]["Dense_1"]["bias"]


def test_what_is_shown_is_read_only_and_changes_nothing(tmp_path: Path, module: types.ModuleType) -> None:
    refused: list[type[Exception]] = []

    def meddle(end: ChunkEnd) -> None:
        def attempt(what: Any) -> None:
            with pytest.raises((TypeError, ValueError, AttributeError)) as raised:
                what()
            refused.append(raised.type)

        attempt(lambda: end.metrics.__setitem__("val/loss", 0.0))
        attempt(lambda: end.state.params["Dense_0"]["kernel"].__setitem__(0, 0.0))
        attempt(lambda: end.state.tick.__setitem__((), 0))
        attempt(lambda: setattr(end, "step", 0))

    module.meddle = meddle
    hpjax.run(runs.config(tmp_path / "shown", callback=("my_callbacks:meddle",)))
    assert len(refused) == 4 * 8
    hpjax.run(runs.config(tmp_path / "plain"))
    runs.assert_same(tmp_path / "shown", tmp_path / "plain")


def test_a_callback_that_fails_ends_the_run_which_goes_on_later(tmp_path: Path, module: types.ModuleType) -> None:
    def fail(end: ChunkEnd) -> None:
        if end.step == 20:
            raise RuntimeError("no room for the picture")

    module.draw = fail
    config = runs.config(tmp_path / "run", callback=("my_callbacks:draw",))
    with pytest.raises(RuntimeError, match=r"^no room for the picture$"):
        hpjax.run(config)
    facts = runs.metadata(tmp_path / "run")
    assert (facts["status"], facts["error"]) == ("failed", "no room for the picture")
    CALLBACKS._imported.clear()
    module.draw = lambda end: None
    assert hpjax.run(config).status == "done"
    hpjax.run(runs.config(tmp_path / "plain"))
    runs.assert_same(tmp_path / "run", tmp_path / "plain")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:look", "callback 'no_such_module:look': cannot import module 'no_such_module': "),
        ("my_callbacks:lok", "callback 'my_callbacks:lok': module 'my_callbacks' has no 'lok'; did you mean 'look'?"),
        ("look", "callback 'look' is no plug-in; expected package.module:name"),
        ("my_callbacks:", "callback 'my_callbacks:' is no plug-in; expected package.module:name"),
        ("my_callbacks:number", "callback 'my_callbacks:number' is 7; expected a function with a signature"),
    ],
)
def test_bad_names(name: str, message: str, tmp_path: Path, module: types.ModuleType, capsys: pytest.CaptureFixture) -> None:
    module.look, module.number = lambda end: None, 7
    words = runs.flags(tmp_path / "run", callback=("my_callbacks:look", name))
    assert train.main(["hpjax.train", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"hpjax.train: {message}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
