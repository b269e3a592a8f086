"""The run's folder: one owner, whole files, the run's own files only, and what its metadata says."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import hpjax
import whole_runs as runs
from hpjax import build, devices, flags
from hpjax.config import to_text
from hpjax.errors import RunFolderError
from hpjax.resolve import native_mode, resolve
from hpjax.runfolder import RunFolder

HOLD = """
import sys, time
from hpjax.runfolder import RunFolder
folder = RunFolder.open(sys.argv[1])
print("held", flush=True)
time.sleep(100)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "finished"
    hpjax.run(runs.config(folder))
    return folder


@pytest.fixture
def run(tmp_path: Path, finished: Path) -> Path:
    """A copy of a finished run."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


# One owner.


def test_a_second_run_is_refused_by_the_name_of_the_process(run: Path) -> None:
    before = content(run)
    owner = RunFolder.open(run)
    with pytest.raises(RunFolderError, match=rf"run' is in use by process {os.getpid()}; expected another folder"):
        hpjax.run(runs.config(run, overwrite=True))
    assert content(run) == before
    owner.close()
    assert hpjax.run(runs.config(run)).status == "done"


def test_the_lock_of_a_killed_process_does_not_block(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(runs.ROOT)}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            with pytest.raises(RunFolderError, match=f"in use by process {process.pid};"):
                RunFolder.open(tmp_path / "run")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    folder = RunFolder.open(tmp_path / "run")
    assert (tmp_path / "run" / ".lock").read_text() == f"{os.getpid()}\n"
    folder.close()


# What is refused.


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunFolderError, match=r"run' is a file; expected a folder or a new name"):
        RunFolder.open(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    with pytest.raises(RunFolderError, match=r"thesis' holds 'chapter.tex' and is no run folder; expected a new name"):
        hpjax.run(runs.config(tmp_path / "thesis", overwrite=overwrite))
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_an_empty_folder_is_used_and_a_refused_start_leaves_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert hpjax.run(runs.config(tmp_path / "empty")).status == "done"
    RunFolder.open(tmp_path / "new").close()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("status", ["done", "running", "preempted"])
def test_other_flags_are_refused_with_the_differences(run: Path, status: str) -> None:
    facts = {**runs.metadata(run), "status": status}
    (run / "metadata.json").write_text(json.dumps(facts))
    before = content(run)
    with pytest.raises(RunFolderError) as caught:
        hpjax.run(runs.config(run, learning_rate=0.25, hidden_sizes=(8, 4), clip_norm=1.0))
    message = str(caught.value)
    for difference in ("learning_rate 0.1 -> 0.25", "hidden_sizes 16 -> 8,4", "clip_norm (none) -> 1.0"):
        assert difference in message
    assert message.count(" -> ") == 3
    assert message.endswith("expected the same flags, --overwrite or a new name")
    assert "\n" not in message
    # The run that is there did not fail: nothing of it may change.
    assert content(run) == before


def test_the_same_flags_however_they_are_spelt_are_the_same_run(run: Path) -> None:
    before = content(run)
    result = hpjax.run(runs.config(run, learning_rate="1e-1", data_seed=0, devices="auto", batch_size="64"))
    assert result.status == "done"
    assert content(run) == before


def test_noresume_refuses_a_folder_that_holds_a_run(run: Path) -> None:
    before = content(run)
    with pytest.raises(RunFolderError, match="holds a run and --noresume was given; expected --overwrite or a new name"):
        hpjax.run(runs.config(run, resume=False))
    assert content(run) == before


def test_a_flagfile_that_cannot_be_read_is_said(run: Path) -> None:
    (run / "flags.txt").write_text("--learning_rate=fast\n")
    with pytest.raises(RunFolderError, match=r"flags.txt' cannot be read: .*learning_rate.*'fast'.*; expected --overwrite"):
        hpjax.run(runs.config(run))


# Overwriting.


def test_overwrite_deletes_the_files_of_the_run_and_no_others(run: Path, finished: Path) -> None:
    (run / "notes.md").write_text("mine")
    (run / "plots").mkdir()
    (run / "plots" / "loss.png").write_text("mine too")
    result = hpjax.run(runs.config(run, overwrite=True, train_steps="20"))
    assert result.history[-1]["step"] == 20
    assert max(int(path.name) for path in (run / "checkpoints").iterdir()) == 20
    assert len(list((run / "tb").iterdir())) == 1
    assert (run / "notes.md").read_text() == "mine"
    assert (run / "plots" / "loss.png").read_text() == "mine too"
    # Back again: nothing of either run is left in the other's numbers.
    hpjax.run(runs.config(run, overwrite=True))
    shutil.rmtree(run / "plots")
    (run / "notes.md").unlink()
    runs.assert_same(run, finished)


def test_overwrite_that_was_killed_can_be_repeated(run: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    unlink = Path.unlink
    for moment in range(3):
        calls = []

        def killed(self: Path, missing_ok: bool = False, moment: int = moment, calls: list = calls) -> None:
            calls.append(self)
            if len(calls) > moment:
                raise Killed
            unlink(self, missing_ok=missing_ok)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Path, "unlink", killed)
            hpjax.run(runs.config(run, overwrite=True, train_steps="20"))
    hpjax.run(runs.config(run, overwrite=True))
    runs.assert_same(run, finished)


def test_overwrite_that_cannot_delete_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(RunFolderError, match=r"cannot write to '.*': permission denied"):
        hpjax.run(runs.config(run, overwrite=True))


# Whole files.


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    folder = RunFolder.open(tmp_path / "run")
    folder.write("metadata.json", '{"status": "running"}')

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if moment == "fsync" else (Path, "replace")), fail)
        with pytest.raises(RunFolderError, match=r"^cannot write to '.*metadata.json.new': the disk is full$"):
            folder.update_metadata(status="done")
    assert folder.metadata() == {"status": "running"}
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "metadata.json"]
    folder.close()


def test_a_killed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    folder = RunFolder.open(tmp_path / "run")
    folder.write("metadata.json", '{"status": "running"}')
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "fsync", killed)
        folder.update_metadata(status="done")
    assert folder.metadata() == {"status": "running"}
    folder.update_metadata(status="done")
    assert folder.metadata() == {"status": "done"}
    assert not (tmp_path / "run" / "metadata.json.new").exists()
    folder.close()


# What the folder says.


@pytest.mark.slow
def test_flags_txt_repeats_the_run_through_the_command_line(tmp_path: Path) -> None:
    settings = {
        "optimizer": "adamw",
        "learning_rate": 0.1 / 3,
        "schedule": "cosine",
        "warmup": "10%",
        "label_smoothing": 0.1,
        "micro_batch_size": 32,
        "seed": 3,
        "objective": "val/loss:min",
    }
    output = tmp_path / "output"
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    first = runs.start(runs.flags(tmp_path / "first", **settings), output, **cache)
    assert first.wait(120) == 0, output.read_text()
    arguments = [f"--flagfile={tmp_path / 'first' / 'flags.txt'}", f"--run_dir={tmp_path / 'again'}"]
    assert runs.start(arguments, output, **cache).wait(120) == 0, output.read_text()
    runs.assert_same(tmp_path / "again", tmp_path / "first")
    assert (tmp_path / "again" / "flags.txt").read_text() == (tmp_path / "first" / "flags.txt").read_text()


def test_flags_txt_is_the_resolved_config(finished: Path) -> None:
    stored = flags.parse(["program", f"--flagfile={finished / 'flags.txt'}"])
    resolved = resolve(runs.config(finished)).replace(run_dir=None, progress=True, lane_width="1")
    assert stored == resolved
    assert "run_dir" not in (finished / "flags.txt").read_text().replace("--run_dir=NEW_FOLDER", "")
    assert f"--learning_rate={to_text('learning_rate', 0.1)}\n" in (finished / "flags.txt").read_text()


def test_metadata(finished: Path) -> None:
    facts = runs.metadata(finished)
    assert facts["status"] == "done"
    assert facts["versions"]["jax"] == jax.__version__
    assert facts["versions"]["numpy"] == np.__version__
    assert set(facts["versions"]) >= {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"}
    assert facts["python"] == sys.version.split()[0]
    assert facts["devices"] == [str(jax.devices()[0])]
    assert facts["seeds"] == {"seed": 0, "data_seed": 0}
    assert facts["command"] == sys.argv
    assert facts["identity"] == devices.identity(1, 1, native_mode("auto"))
    assert facts["identity"]["cores"] == devices.cores()
    assert facts["step"] == 40
    command = ["git", "-C", str(runs.ROOT), "rev-parse", "HEAD"]
    revision = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    assert facts["git_revision"] == (revision or None)


def test_metadata_while_a_run_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpjax.loop import Loop

    handle, seen = Loop._handle, []

    def look(self: Loop, *args: Any) -> None:
        seen.append(runs.metadata(tmp_path / "run")["status"])
        handle(self, *args)

    monkeypatch.setattr(Loop, "_handle", look)
    hpjax.run(runs.config(tmp_path / "run"))
    assert set(seen) == {"running"}


def test_a_failure_is_noted_and_forgotten_when_the_run_goes_on(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpjax.loop import Loop

    def fail(self: Loop, *args: Any) -> None:
        if self.tick >= 20:
            raise MemoryError("out of memory")
        handle(self, *args)

    handle = Loop._handle
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(Loop, "_handle", fail)
        hpjax.run(runs.config(tmp_path / "run"))
    facts = runs.metadata(tmp_path / "run")
    assert (facts["status"], facts["error"]) == ("failed", "out of memory")
    hpjax.run(runs.config(tmp_path / "run"))
    runs.assert_same(tmp_path / "run", finished)
    assert runs.metadata(tmp_path / "run")["error"] is None


def test_another_identity_is_said_on_resume(run: Path, capsys: pytest.CaptureFixture) -> None:
    facts = runs.metadata(run)
    facts["status"] = "running"
    facts["identity"] |= {"cores": 96, "jax": "0.1.2"}
    (run / "metadata.json").write_text(json.dumps(facts))
    hpjax.run(runs.config(run))
    said = capsys.readouterr().out
    assert "this run was begun elsewhere (cores 96 -> " in said
    assert f"jax 0.1.2 -> {jax.__version__}" in said
    assert said.count(" -> ") == 2
    assert runs.metadata(run)["identity"] == devices.identity(1, 1, native_mode("auto"))


def test_the_same_identity_is_not_mentioned(run: Path, capsys: pytest.CaptureFixture) -> None:
    (run / "metadata.json").write_text(json.dumps({**runs.metadata(run), "status": "running"}))
    hpjax.run(runs.config(run))
    assert capsys.readouterr().out == ""


def test_running_again_returns_the_finished_result(run: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "single_run", None)
    before = content(run)
    again = hpjax.run(runs.config(run))
    assert content(run) == before
    facts = runs.metadata(finished)
    assert again.status == "done"
    assert again.objective == facts["objective"]
    assert again.best == facts["best"]
    assert again.test == facts["test"]
    assert again.run_dir == run


# What may have changed since.


def test_other_data_is_refused_and_keeps_the_run(run: Path) -> None:
    (run / "metadata.json").write_text(json.dumps({**runs.metadata(run), "status": "running", "data": "0" * 32}))
    before = content(run)
    with pytest.raises(RunFolderError, match="the data set has changed since this run was begun"):
        hpjax.run(runs.config(run))
    assert content(run) == before


@pytest.mark.parametrize("damage", ["[]", "\xff", '{"status": "done"}', ""])
def test_damaged_metadata_is_written_anew(run: Path, finished: Path, damage: str) -> None:
    (run / "metadata.json").write_bytes(damage.encode("latin-1"))
    result = hpjax.run(runs.config(run))
    assert result.test == runs.metadata(finished)["test"]
    assert runs.metadata(run)["status"] == "done"


def test_a_reader_that_leaves_does_not_end_the_run(tmp_path: Path) -> None:
    words = " ".join(
        [sys.executable, "-m", "hpjax.train", *runs.flags(tmp_path / "run"), "| head -1; exit ${PIPESTATUS[0]}"]
    )
    ended = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(runs.ROOT)}
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert runs.metadata(tmp_path / "run")["status"] == "done"
