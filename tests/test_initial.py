"""Fine-tuning: what is taken of a checkpoint, what is said of it, what is refused; frozen parameters; resume."""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import hpjax
import whole_runs as runs
from hpjax import build, resolve, train
from hpjax.checkpoints import Checkpoints, read
from hpjax.errors import ConfigError
from hpjax.initial import load

SHORT = {"train_steps": "10", "dropout_rate": 0.0, "hidden_sizes": (16, 8)}
FINE = {**SHORT, "hidden_sizes": (16, 12), "seed": 5, "freeze": ("Dense_0",), "optimizer": "adamw", "weight_decay": 0.1}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that averaged its parameters."""
    folder = tmp_path_factory.mktemp("before") / "run"
    hpjax.run(runs.config(folder, **SHORT, ema_decay=0.5, eval_every="4", keep_newest=9))
    return folder


def variables(**settings: Any) -> dict[str, Any]:
    config = resolve.resolve(runs.config(Path("x"), **{**SHORT, **settings}))
    dataset = build.load(config)
    return build.variables(build.trial(config, dataset), dataset)


def assert_equal(actual: Any, expected: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def chosen(before: Path) -> Path:
    return before / "checkpoints" / str(runs.metadata(before)["chosen_tick"])


def test_variables_are_taken_by_name_and_shape(before: Path) -> None:
    found = load(str(before), variables(hidden_sizes=(16, 12, 8)))
    average = read(chosen(before))["average"]
    assert_equal(found.variables, {"params": {"Dense_0": average["Dense_0"]}})
    assert found.notes == [
        f"begins with 2 of 8 variables of '{chosen(before)}'",
        "not in it with that shape, and drawn anew: params/Dense_1/bias [12], params/Dense_1/kernel [16, 12], "
        "params/Dense_2/bias [8], params/Dense_2/kernel [12, 8], params/Dense_3/bias [10], params/Dense_3/kernel [8, 10]",
    ]


def test_the_average_is_taken_and_all_of_it(before: Path) -> None:
    found = load(str(before), variables())
    saved = read(chosen(before))
    assert not np.array_equal(saved["average"]["Dense_0"]["kernel"], saved["params"]["Dense_0"]["kernel"])
    assert_equal(found.variables, {"params": saved["average"]})
    assert found.notes == [f"begins with 6 of 6 variables of '{chosen(before)}'"]


def test_a_checkpoint_of_ones_choice(before: Path) -> None:
    place = before / "checkpoints" / "5"
    assert chosen(before) != place
    assert_equal(load(str(place), variables()).variables, {"params": read(place)["average"]})


def test_collections_are_taken_too(tmp_path: Path) -> None:
    resnet = {"model": "resnet", "depth": 8, "channels": (2, 2, 2), "hidden_sizes": None, "dropout_rate": None}
    short = {**resnet, "train_steps": "1", "eval_every": "1", "checkpoint_every": "1"}
    hpjax.run(runs.config(tmp_path / "run", **short))
    saved = read(tmp_path / "run" / "checkpoints" / "1")
    found = load(str(tmp_path / "run"), variables(**resnet))
    assert_equal(found.variables, {"params": saved["params"], **saved["collections"]})
    assert "batch_stats" in found.variables


@pytest.fixture(scope="module")
def tuned(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "run"
    hpjax.run(runs.config(folder, **FINE, init_from=str(before)))
    return folder


def test_a_fine_tuned_run_begins_there_and_leaves_what_is_frozen(before: Path, tuned: Path) -> None:
    average, end = read(chosen(before))["average"], read(tuned / "checkpoints" / "10")["params"]
    for leaf, value in average["Dense_0"].items():
        assert end["Dense_0"][leaf].tobytes() == np.asarray(value).tobytes()
    for name in ("Dense_1", "Dense_2"):
        assert end[name]["kernel"].shape == {"Dense_1": (16, 12), "Dense_2": (12, 10)}[name]
    assert f"--init_from={before}" in (tuned / "flags.txt").read_text()


def test_all_but_frozen_is_the_other_run(before: Path, tmp_path: Path) -> None:
    """One bias is trained, at a rate that does not change a bit of it."""
    frozen = {"freeze": ("kernel", "Dense_[01]"), "optimizer": "sgd", "learning_rate": 1e-20}
    found = hpjax.run(runs.config(tmp_path / "run", **SHORT, **frozen, init_from=str(before)))
    assert_equal(found.params, read(chosen(before))["average"])
    facts = runs.metadata(before)
    assert found.best["value"] == facts["best"]["value"]
    assert found.test == facts["test"]


@pytest.mark.parametrize("tick", [5, 10])
def test_a_fine_tuned_run_is_resumed(before: Path, tuned: Path, tmp_path: Path, tick: int) -> None:
    """Before its first checkpoint it begins again where the other run had ended; after it, where it was."""
    config = runs.config(tmp_path / "run", **FINE, init_from=str(before))
    with runs.killed_before(tick):
        hpjax.run(config)
    hpjax.run(config)
    runs.assert_same(tmp_path / "run", tuned)


def test_what_is_said(before: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    words = runs.flags(tmp_path / "run", **{**FINE, "init_from": before, "train_steps": "1"})
    assert train.main(["hpjax.train", *words]) == 0
    said = " ".join("".join(capfd.readouterr()).split())
    assert f"begins with 3 of 6 variables of '{chosen(before)}'" in said
    assert "drawn anew: params/Dense_1/bias [12]" in said


def refused(tmp_path: Path, capfd: pytest.CaptureFixture, **settings: Any) -> str:
    words = runs.flags(tmp_path / "new", **{**SHORT, **settings})
    capfd.readouterr()
    assert train.main(["hpjax.train", *words]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert not (tmp_path / "new").exists()
    return err.removeprefix("hpjax.train: ").removesuffix("\n")


def test_bad_places(before: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    for place in (tmp_path / "no", tmp_path):
        message = refused(tmp_path, capfd, init_from=place)
        assert message.startswith(f"init_from is '{place}'; expected a run's folder, a study's or a checkpoint's")
    empty = tmp_path / "empty"
    shutil.copytree(before, empty)
    shutil.rmtree(empty / "checkpoints")
    assert refused(tmp_path, capfd, init_from=empty) == (
        f"init_from '{empty}' has no checkpoint yet; expected a run that has saved one"
    )


def test_a_damaged_checkpoint(before: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(chosen(before), copy)
    largest = max((path for path in copy.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    assert refused(tmp_path, capfd, init_from=copy).startswith("init_from: ")


def test_nothing_that_fits(before: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(str(before), variables(hidden_sizes=(3,)))
    assert str(raised.value).startswith(
        f"init_from '{before}': no parameter fits by name and shape; the checkpoint has params/"
    )


def test_a_regular_expression_that_freezes_nothing(before: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert "Conv_" in refused(tmp_path, capfd, init_from=before, freeze=("Conv_",))


def test_reading_changes_nothing(before: Path) -> None:
    files = {path: path.read_bytes() for path in before.rglob("*") if path.is_file()}
    load(str(before), variables())
    assert {path: path.read_bytes() for path in before.rglob("*") if path.is_file()} == files
    checkpoints = Checkpoints(before / "checkpoints", 9, 1)
    assert len(checkpoints.ticks()) > 1
    checkpoints.close()
