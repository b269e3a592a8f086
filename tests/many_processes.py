"""What the tests of runs of several processes share: they are started on loopback, ended, and looked at."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import whole_runs as runs
from test_sweep import words

SLOWLY = """
import sys, time
from hpjax import loop, train
advance = loop.Loop._advance
def slowly(self, look):
    time.sleep({pause})
    return advance(self, look)
loop.Loop._advance = slowly
sys.argv = ["hpjax.train", *sys.argv[1:]]
sys.exit(train.main(sys.argv))
"""
"""A run that takes long enough to be disturbed: it waits before each chunk, which changes no bit."""

STUDY_SLOWLY = """
import sys, time
from hpjax import sweep
from hpjax.study import runner, writer
runner.FIRST_SAVE, runner.SAVE_EVERY, runner.SAVE_SHARE = 0.05, 0.05, 1.0
write = writer.Writer.write
writer.Writer.write = lambda self, changed: (time.sleep({pause}), write(self, changed))
sys.exit(sweep.main(["hpjax.sweep", *sys.argv[1:]]))
"""
"""Likewise a study, with many checkpoints: it waits at each look."""

# Two ticks a step, so that a run may also stop inside a step.
SETTINGS: dict[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "schedule": "cosine",
    "batch_size": 64,
    "micro_batch_size": 32,
    "eval_batch_size": 64,
    "train_steps": "36",
    "log_every": "2",
    "eval_every": "6",
    "checkpoint_every": "6",
    "devices": "auto",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Together:
    """The processes of one run."""

    def __init__(
        self,
        number: int,
        folder: Path,
        pause: float,
        environment: dict[str, str],
        settings: dict[str, Any],
        only: dict[int, dict[str, Any]] | None,
        vary: tuple[str, ...],
    ):
        address = {"coordinator_address": f"127.0.0.1:{free_port()}", "num_processes": number, "join_timeout": 60}
        self.folder = folder
        self.outputs = [folder.parent / f"{folder.name}-{id_}.output" for id_ in range(number)]
        for output in self.outputs:
            output.unlink(missing_ok=True)
        code = (STUDY_SLOWLY if vary else SLOWLY).format(pause=pause)
        self.processes: list[subprocess.Popen] = []
        for id_, output in enumerate(self.outputs):
            given = {**settings, **(only or {}).get(id_, {}), **address, "process_id": id_}
            flags = words(vary, study=folder, **given) if vary else runs.flags(folder, **{**SETTINGS, **given})
            self.processes.append(runs.start(flags, output, code, JAX_NUM_CPU_DEVICES="1", **environment))

    def wait(self, seconds: float = 240) -> list[int]:
        """The exit codes, once all have ended."""
        deadline = time.monotonic() + seconds
        return [process.wait(max(deadline - time.monotonic(), 0.1)) for process in self.processes]

    def until(self, condition: Callable[[], object]) -> None:
        """Waits until the condition holds."""
        deadline = time.monotonic() + 240
        while not condition():
            assert all(process.poll() is None for process in self.processes), self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def until_saved(self, number: int = 1) -> None:
        """Waits until so many checkpoints are there, beside those that were there."""
        before = saved(self.folder)
        self.until(lambda: len(saved(self.folder) - before) >= number)

    def said(self, id_: int | None = None) -> str:
        """All that one process, or each of them, has printed."""
        outputs = self.outputs if id_ is None else [self.outputs[id_]]
        return "\n".join(output.read_text() for output in outputs if output.exists())

    def kill(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def together(
    number: int,
    folder: Path,
    pause: float = 0.0,
    environment: dict[str, str] | None = None,
    only: dict[int, dict[str, Any]] | None = None,
    vary: tuple[str, ...] = (),
    **settings: Any,
) -> Iterator[Together]:
    """Starts a run, or a study with `vary`, in so many processes, which a failing test does not leave behind.

    `only` is what one of them is given.
    """
    run = Together(number, folder, pause, environment or {}, settings, only, vary)
    try:
        yield run
    finally:
        for process in run.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def finish(number: int, folder: Path, environment: dict[str, str] | None = None, **settings: Any) -> Together:
    """Runs to the end in so many processes."""
    with together(number, folder, environment=environment, **settings) as run:
        assert run.wait() == [0] * number, run.said()
    return run


def saved(folder: Path) -> set[int]:
    """The ticks of the checkpoints in a run's folder."""
    path = folder / "checkpoints"
    return {int(name) for name in os.listdir(path) if name.isdecimal()} if path.is_dir() else set()
