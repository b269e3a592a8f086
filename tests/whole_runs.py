"""What the tests of whole runs share: tiny settings, the command line as a subprocess, and what must be equal at the end."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from hpjax import Config
from hpjax.config import to_text
from hpjax.loop import Loop

ROOT = Path(__file__).parent.parent

TINY: dict[str, Any] = {
    "hidden_sizes": (16,),
    "dropout_rate": 0.2,
    "batch_size": 64,
    "train_steps": "40",
    "log_every": "5",
    "eval_every": "10",
    "checkpoint_every": "5",
    "devices": "1",
}


def config(folder: Path, **changes: Any) -> Config:
    return Config(**{**TINY, "progress": False, "run_dir": str(folder), **changes})


def flags(folder: Path, **changes: Any) -> list[str]:
    return [f"--{name}={to_text(name, value)}" for name, value in {**TINY, "run_dir": folder, **changes}.items()]


def start(arguments: list[str], output: Path, code: str | None = None, **environment: str) -> subprocess.Popen:
    """Starts `python -m hpjax.train`, or Python code that is given the same arguments; stdout and stderr go to a file."""
    program = ["-m", "hpjax.train"] if code is None else ["-c", code]
    # But for how the tests around it compile: what they compare must be compiled alike.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JAX_", "XLA_")) or name == "JAX_DISABLE_MOST_OPTIMIZATIONS"
    }
    with output.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-u", *program, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        )


class Killed(Exception):
    """What ends a run in the place of a signal."""


@contextlib.contextmanager
def killed_before(tick: int) -> Iterator[None]:
    """Ends a run with `Killed` where its first boundary at or after a tick would be handled: nothing of it is written."""
    handle = Loop._handle

    def killing(self: Loop, boundary: Any, view: Any) -> None:
        if boundary.tick >= tick:
            raise Killed
        handle(self, boundary, view)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Loop, "_handle", killing)
        yield


def metadata(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metadata.json").read_text())


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log points without what depends on the clock."""
    points = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in point.items() if not name.startswith("speed/")} for point in points]


def scalars(folder: Path, speed: bool = False) -> list[tuple[str, int, float]]:
    """Tag, step and value of every scalar, as TensorBoard itself reads them."""
    (path,) = (folder / "tb").iterdir()
    events = list(LegacyEventFileLoader(str(path)).Load())
    values = [(value.tag, event.step, value) for event in events for value in event.summary.value]
    return [
        (tag, step, value.simple_value)
        for tag, step, value in values
        if value.HasField("simple_value") and (speed or not tag.startswith("speed/"))
    ]


def arrays(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every array of every checkpoint, as Orbax itself reads it: dtype, shape and bytes."""
    with ocp.StandardCheckpointer() as orbax:
        found = {}
        for checkpoint in sorted((folder / "checkpoints").iterdir()):
            leaves, _ = jax.tree_util.tree_flatten_with_path(orbax.restore(checkpoint.absolute() / "state"))
            for path, leaf in leaves:
                value = np.asarray(leaf)
                name = checkpoint.name + jax.tree_util.keystr(path)
                found[name] = (value.dtype.str, value.shape, value.tobytes())
    return found


def files(folder: Path) -> set[str]:
    """Names of all files; those that TensorBoard and Orbax make from clocks and random numbers without them."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    names = (path.parent / "events" if path.parent.name == "tb" else path for path in paths)
    return {name.as_posix() for name in names if name.parent.name != "d"}


def outcome(folder: Path) -> dict[str, Any]:
    """All that must be equal between a run that was disturbed and one that was not."""
    facts = metadata(folder)
    records = {}
    for path in sorted((folder / "checkpoints").glob("*/record.json")):
        saved = json.loads(path.read_text())
        kept = {name: saved["record"][name] for name in ("tick", "evaluations", "diverged_at")}
        records[path.parent.name] = {**saved, "record": kept}
    return {
        "lines": lines(folder),
        "scalars": repr(scalars(folder)),
        "facts": {
            name: facts[name]
            for name in ("status", "step", "objective", "best", "test", "chosen_tick", "diverged_at", "seeds", "identity")
        },
        "files": files(folder),
        "records": records,
        "arrays": arrays(folder),
    }


def assert_same(folder: Path, reference: Path) -> None:
    found, expected = outcome(folder), outcome(reference)
    for name, value in expected.items():
        assert found[name] == value, f"{name} of {folder.name} differs from {reference.name}"
