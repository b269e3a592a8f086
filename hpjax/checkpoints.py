"""Checkpoints through Orbax: saved in the background, the newest and the best kept, damage noticed by checksum.

A checkpoint is a folder named by its tick: `state/` (Orbax), `record.json` and `checksums.json`. It is made under another
name and renamed when all of it is on the disk, so a folder named by a tick is whole unless it was damaged afterwards.
"""

import errno
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from hpjax.errors import RunFolderError

STATE, RECORD, CHECKSUMS = "state", "record.json", "checksums.json"
UNFINISHED = ".new"
OVERHEAD = 2**17
"""Bytes on the disk that a checkpoint may take beside its arrays (60 kB were measured)."""


class Checkpoints:
    """The checkpoints of one run, by tick. Each holds a pytree of arrays and a JSON record."""

    def __init__(self, folder: Path, keep_newest: int, keep_best: int):
        """Opens the folder, making it if need be, and clears away what an interrupted save left.

        Args:
          folder: the folder of the checkpoints.
          keep_newest: newest regular checkpoints to keep; the very newest is kept whether it is regular or not.
          keep_best: checkpoints with the best score to keep; of equal scores the earlier.
        """
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._folder, self._newest, self._best = folder.absolute(), keep_newest, keep_best
        # Not Orbax's CheckpointManager: it deletes the old before its caller can checksum the new, ranks NaN as the best,
        # and would let a checkpoint made by Ctrl-C push out one that a run without Ctrl-C keeps.
        self._orbax = _orbax()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._saving: Future[None] | None = None
        self._folder.mkdir(parents=True, exist_ok=True)
        for unfinished in self._folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(unfinished)
        self._kept = {int(path.name): _read(path) for path in self._folder.iterdir() if path.name.isdecimal()}
        self._drop_old()

    def save(self, tick: int, state: Any, record: dict[str, Any], score: float, regular: bool = True) -> None:
        """Begins to save in the background; waits first for the save before, and raises what made that fail.

        Args:
          tick: the checkpoint's name.
          state: pytree of NumPy arrays, which must not change afterwards.
          record: JSON values.
          score: what `keep_best` ranks by, more is better; NaN or -inf is never among the best.
          regular: whether a run that is not interrupted saves here too; `keep_newest` counts only such checkpoints.
        """
        self.wait()
        facts = {"tick": tick, "score": score if math.isfinite(score) else None, "regular": regular, "record": record}
        self._saving = self._thread.submit(self._save, tick, state, facts)

    def wait(self) -> None:
        """Waits until the save under way is on the disk; raises what made it fail."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def restore(self, tick: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Returns the state, NumPy arrays in the structure of `like`, and the record of a checkpoint.

        Raises:
          RunFolderError: the checkpoint is damaged.
        """
        folder = self._intact(tick)
        state = self._orbax.restore(folder / STATE, args=ocp.args.StandardRestore(like))
        return state, json.loads((folder / RECORD).read_text())["record"]

    def record(self, tick: int) -> dict[str, Any]:
        """Returns the record of a checkpoint alone; raises RunFolderError if it is damaged."""
        return json.loads((self._intact(tick) / RECORD).read_text())["record"]

    def newest_first(self) -> Iterator[tuple[int, str | None]]:
        """Yields checkpoints, newest first: the tick, and None or why the run cannot go on from it.

        A run that goes on from a checkpoint needs the best one of that time too: it may be the one that is used in the end.
        """
        for tick in reversed(self.ticks()):
            problem = damage(self._folder / str(tick))
            best = None if problem else self._kept[tick]["best"]
            if best not in (None, tick) and (lost := damage(self._folder / str(best))):
                problem = f"the best one before it, {best}, is lost: {lost}"
            yield tick, problem

    def delete(self, tick: int) -> None:
        """Deletes a checkpoint."""
        shutil.rmtree(self._folder / str(tick))
        del self._kept[tick]

    def ticks(self) -> list[int]:
        """Returns the ticks of the checkpoints that are kept."""
        self.wait()
        return sorted(self._kept)

    def close(self) -> None:
        """Waits for the save under way and gives up the background thread."""
        self._thread.shutdown()
        self._orbax.close()

    def _intact(self, tick: int) -> Path:
        folder = self._folder / str(tick)
        if problem := damage(folder):
            raise RunFolderError(f"checkpoint '{folder}' cannot be used: {problem}; expected --overwrite or a new name")
        return folder

    def _save(self, tick: int, state: Any, facts: dict[str, Any]) -> None:
        new = self._folder / f"{tick}{UNFINISHED}"
        # Asked before: a disk that fills up under TensorStore makes its threads print tracebacks.
        if shutil.disk_usage(self._folder).free < sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + OVERHEAD:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(new))
        self._orbax.save(new / STATE, args=ocp.args.StandardSave(state))
        best = self._ranked({**self._kept, tick: facts})
        facts["best"] = best[0] if best else None
        _write(new / RECORD, facts)
        _write(new / CHECKSUMS, _checksums(new))
        new.rename(self._folder / str(tick))
        self._kept[tick] = facts
        self._drop_old()

    def _drop_old(self) -> None:
        """Deletes what is neither among the newest, nor the best when one of those was made, nor among the best."""
        regular = sorted(tick for tick, facts in self._kept.items() if facts["regular"])
        newest = {*regular[-self._newest :], *sorted(self._kept)[-1:]}
        keep = newest | {self._kept[tick]["best"] for tick in newest}
        keep |= set(self._ranked(self._kept)[: self._best])
        for tick in sorted(self._kept.keys() - keep):
            self.delete(tick)

    @staticmethod
    def _ranked(checkpoints: dict[int, dict[str, Any]]) -> list[int]:
        scores = {tick: facts["score"] for tick, facts in checkpoints.items() if facts["score"] is not None}
        return sorted(scores, key=lambda tick: (-scores[tick], tick))


def read(folder: Path, like: Any = None) -> Any:
    """Returns the state of a checkpoint's folder: NumPy arrays, in nested dicts or in the structure of `like`.

    Raises:
      RunFolderError: it is damaged.
    """
    if problem := damage(folder):
        raise RunFolderError(f"checkpoint '{folder}' cannot be used: {problem}")
    logging.getLogger("absl").setLevel(logging.ERROR)
    with _orbax() as orbax:
        return orbax.restore(folder.absolute() / STATE, args=ocp.args.StandardRestore(like))


def _orbax() -> ocp.Checkpointer:
    """Returns Orbax's writer and reader for this process alone: in a run of several it would wait for the others."""
    if not jax.distributed.is_initialized():
        return ocp.Checkpointer(ocp.StandardCheckpointHandler())
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"hpjax{me}"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def damage(folder: Path) -> str | None:
    """Returns what is wrong with a checkpoint, or None if every file has its checksum."""
    try:
        expected = json.loads((folder / CHECKSUMS).read_text())
        found = _checksums(folder)
    except FileNotFoundError:
        return f"file {CHECKSUMS} is missing"
    except (OSError, ValueError):
        return f"file {CHECKSUMS} cannot be read"
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"file {name} is missing"
        if found[name] != expected.get(name):
            return f"file {name} is damaged (its checksum differs)"
    return None


def _checksums(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / CHECKSUMS)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _read(folder: Path) -> dict[str, Any]:
    """Returns what a checkpoint's record says of it; of one that cannot be read, that nothing speaks for keeping it."""
    try:
        facts = json.loads((folder / RECORD).read_text())
        return {name: facts[name] for name in ("score", "regular", "best")}
    except (OSError, ValueError, KeyError, TypeError):
        return {"score": None, "regular": False, "best": None}


def _write(path: Path, values: dict[str, Any]) -> None:
    with path.open("w") as file:
        # No blanks: a changed byte of the checksums must not be one that a reader skips.
        json.dump(values, file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
