"""A run read back from its folder: config, data, the chosen checkpoint or another; what is refused."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import hpjax
import whole_runs as runs
from hpjax import saved
from hpjax.errors import ConfigError, RunFolderError
from hpjax.lanes import LaneProgram
from hpjax.placement import Layout


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> hpjax.Result:
    folder = tmp_path_factory.mktemp("done") / "mine"
    return hpjax.run(runs.config(folder, micro_batch_size=32, train_steps="20", objective_value="last"))


def test_a_run_at_its_chosen_checkpoint(done: hpjax.Result) -> None:
    files = {path: path.read_bytes() for path in done.run_dir.rglob("*") if path.is_file()}
    config = saved.config_of(done.run_dir)
    found = saved.load(done.run_dir, config)
    assert found.config == config == done.config.replace(run_dir=None, progress=True)
    assert (found.step, int(found.state.tick)) == (20, 40)
    jax.tree.map(np.testing.assert_array_equal, found.trial.evaluated(found.state), done.params)
    # It is what is needed to go on: the test split gives the same numbers.
    program = LaneProgram(found.trial, Layout())
    examples = program.put_examples(hpjax.batch.Examples(found.dataset.x, found.dataset.y))
    states = program.put(program.init(program.put_values([found.values]), examples), 0, found.state)
    measured = program.evaluate(states, examples, *found.dataset.splits["test"])
    assert float(measured["accuracy"][0]) == done.test["test/accuracy"]
    assert {path: path.read_bytes() for path in done.run_dir.rglob("*") if path.is_file()} == files


def test_another_checkpoint(done: hpjax.Result) -> None:
    config = saved.config_of(done.run_dir)
    found = saved.load(done.run_dir, config, step=15)
    assert (found.step, int(found.state.tick)) == (15, 30)
    with pytest.raises(ConfigError) as raised:
        saved.load(done.run_dir, config, step=14)
    assert str(raised.value).startswith("step is 14; checkpoints are kept of steps ")
    assert "15, 20" in str(raised.value)


def test_folders_that_hold_no_run(done: hpjax.Result, tmp_path: Path) -> None:
    near = done.run_dir.parent / "mime"
    with pytest.raises(RunFolderError) as raised:
        saved.config_of(near)
    assert str(raised.value) == f"'{near}' holds no run; did you mean '{done.run_dir}'?"
    with pytest.raises(RunFolderError) as raised:
        saved.config_of(tmp_path)
    assert str(raised.value) == f"'{tmp_path}' holds no run; expected a run folder, with flags.txt"
    (tmp_path / "flags.txt").write_text("--sed=1\n")
    with pytest.raises(RunFolderError, match=r"cannot be read: .*flag 'sed' is unknown; did you mean 'seed'\?"):
        saved.config_of(tmp_path)


def test_a_run_without_a_checkpoint_or_with_other_data(done: hpjax.Result, tmp_path: Path) -> None:
    copy = shutil.copytree(done.run_dir, tmp_path / "copy")
    config = saved.config_of(copy)
    with pytest.raises(RunFolderError, match=r"^the data set of .* has changed since the run was begun"):
        saved.load(copy, config.replace(split_seed=3))
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(RunFolderError) as raised:
        saved.load(copy, config)
    assert str(raised.value) == f"'{copy}' has no checkpoint yet; expected a run that has saved one"
