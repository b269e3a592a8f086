"""`hpjax.tune` as a whole on digits: found, written, gone on with after a kill, and bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hpjax
from hpjax import tune
from hpjax.errors import ConfigError, RunFolderError
from hpjax.recipe import steps
from hpjax.recipe.finding import Finding
from hpjax.recipe.recipe import run_tune
from hpjax.settings.recipe import STEPS

FLAGS = [
    "--dataset=digits", "--model=mlp", "--hidden_sizes=16", "--optimizer=adamw", "--batch_size=64", "--train_steps=200",
    "--schedule=cosine", "--test_fraction=0.2", "--tensorboard=false",
]  # fmt: skip
VARY = ["--vary=learning_rate=log(1e-3,1e-1)", "--vary=weight_decay=log(1e-4,1e-1)"]


def command(folder: Path, *more: str) -> int:
    return tune.main(["hpjax.tune", *FLAGS, f"--study={folder}", *more])


def test_the_whole_recipe_on_digits(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "tune"
    # It ends when its trials do, however slow the machine is.
    monkeypatch.setattr("hpjax.recipe.search.MOST_TRIALS", 40)
    begun = time.monotonic()
    assert command(folder, "--budget=30min", "--confirm_seeds=2", *VARY) == 0
    seconds = time.monotonic() - begun
    said = capsys.readouterr().out
    found = {path.stem: Finding.from_json(json.loads(path.read_text())) for path in (folder / "steps").iterdir()}
    assert set(found) == set(STEPS)
    for step in STEPS:
        assert f"{step}: {found[step].verdict} (" in said
    assert found["confirm"].facts["best"]["value"] > 0.9
    assert found["confirm"].facts["test"]["test/accuracy"] > 0.9
    assert (folder / "report.md").read_text().startswith("# mlp on digits")
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["status"] == "done"
    assert not any(one.left_out for one in found.values())
    # What the config had is confirmed beside the best; its rate is too low.
    assert found["confirm"].facts["asked"]["value"] < found["confirm"].facts["best"]["value"]
    # A seed is that of the order of the data, too.
    assert hpjax.load_study(folder / "confirm").config.data_seed is None
    tests = [one["test/accuracy"] for one in found["confirm"].facts["test_by_seed"]]
    assert len(tests) == 2 and found["confirm"].facts["test"]["test/accuracy"] in tests
    assert "was not" not in (folder / "report.md").read_text()
    # Each step's own time, and what came before and after them.
    assert sum(one.seconds for one in found.values()) <= seconds
    best = hpjax.Config(**dict(flag[2:].split("=", 1) for flag in FLAGS))
    assert best.model == "mlp"
    capsys.readouterr()
    # The same again is read from the folder; other flags are refused.
    begun = time.monotonic()
    assert command(folder, "--budget=30min", "--confirm_seeds=2", *VARY) == 0
    assert time.monotonic() - begun < seconds / 2
    assert command(folder, "--budget=30min", "--confirm_seeds=3", *VARY) == 2
    assert "holds a recipe with other flags (confirm_seeds 2 -> 3)" in capsys.readouterr().err
    # The winner's flagfile trains.
    trained = subprocess.run(
        [sys.executable, "-m", "hpjax.train", f"--flagfile={folder / 'best.flags'}", f"--run_dir={tmp_path / 'run'}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr


def test_a_small_budget_is_kept_and_what_it_left_out_is_said(tmp_path):
    seconds = 60.0
    words = [sys.executable, "-m", "hpjax.tune", *FLAGS, f"--study={tmp_path / 'tune'}", f"--budget={seconds:.0f}s"]
    begun = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    took = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    assert took < 1.1 * seconds
    found = {path.stem: Finding.from_json(json.loads(path.read_text())) for path in (tmp_path / "tune/steps").iterdir()}
    assert set(found) == set(STEPS)
    page = (tmp_path / "tune" / "report.html").read_text()
    assert "of a budget of 60 s" in page
    for step, one in found.items():
        if one.left_out:
            assert f"{step}: warning" in done.stdout and one.notes[0].evidence in page


def test_a_killed_recipe_goes_on_where_it_was(tmp_path):
    folder = tmp_path / "tune"
    words = [sys.executable, "-m", "hpjax.tune", *FLAGS, f"--study={folder}", "--steps=initial,gradient,overfit"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (folder / "steps" / "initial.json").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = (folder / "steps" / "initial.json").stat().st_mtime_ns
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert (folder / "steps" / "initial.json").stat().st_mtime_ns == before
    assert "initial: " not in again.stdout
    assert {path.stem for path in (folder / "steps").iterdir()} == {"initial", "gradient", "overfit"}


def test_an_interrupted_recipe_says_so_and_keeps_its_steps(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(steps.MADE, "gradient", interrupted)
    assert command(tmp_path, "--steps=initial,gradient") == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert json.loads((tmp_path / "metadata.json").read_text())["status"] == "preempted"
    assert [path.stem for path in (tmp_path / "steps").iterdir()] == ["initial"]
    assert json.loads((tmp_path / "recipe.json").read_text())["used"] > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--budget=10"], "budget is '10'; expected a time of at least 20s: 90s, 10min or 2h"),
        (["--budget=5s"], "budget is '5s'; expected a time of at least 20s"),
        (["--steps=lr,corse"], "steps is 'lr,corse'; expected some of initial"),
        (["--confirm_seeds=1"], "confirm_seeds is '1'"),
        (["--vary=learning_rte=log(1e-3,1)"], "learning_rte"),
        (["--trials=3"], "flag 'trials' is unknown"),
        (["--vary=momentum=uniform(0.5,0.9)"], "momentum is not used by optimizer 'adamw'"),
        (["--vary=train_steps=choice(10,20)"], "vary has 'train_steps', but scheduler 'asha' compares trials of one length"),
        (["--init_from=somewhere"], "init_from is set; expected a recipe from scratch"),
        (["--num_processes=2"], "num_processes is 2, but a recipe runs in one process: expected none"),
        (["--dry_run"], "dry_run is true, but a study has none"),
        (["--shard_optimizer_state"], "shard_optimizer_state is true, but a study's lanes keep theirs whole"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_folder(tmp_path, capsys, flags, message):
    assert command(tmp_path / "tune", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("hpjax.tune: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "tune").exists()


def test_a_step_needs_the_one_that_it_goes_on_from(tmp_path):
    config = hpjax.Config(**dict(flag[2:].split("=", 1) for flag in FLAGS))
    with pytest.raises(ConfigError, match="step 'refine' goes on from 'coarse', which was not made"):
        run_tune(config, steps="refine", study=tmp_path / "tune")
    with pytest.raises(ConfigError, match="setting 'budgt' is unknown; did you mean 'budget'"):
        run_tune(config, budgt="1min")


def test_a_recipe_does_not_take_a_runs_place(tmp_path):
    config = hpjax.Config(**dict(flag[2:].split("=", 1) for flag in FLAGS)).replace(train_steps="2", progress=False)
    hpjax.run(config.replace(run_dir=str(tmp_path / "run")))
    with pytest.raises(RunFolderError, match="holds a run or a study, not a recipe"):
        run_tune(config, study=tmp_path / "run")
