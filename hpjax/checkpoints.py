"""Checkpoints through Orbax: saved in the background, the newest and the best kept, damage noticed by checksum."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

CHECKSUMS = "checksums.json"


class Checkpoints:
    """The checkpoints of one run, by tick. Each holds a pytree of arrays and a JSON record."""

    def __init__(self, folder: Path, keep_newest: int, keep_best: int):
        """Opens the folder, making it if need be.

        Args:
          folder: the folder of the checkpoints.
          keep_newest: newest checkpoints to keep.
          keep_best: checkpoints with the best score to keep; of equal scores the earlier.
        """
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._folder = folder.absolute()
        # A best-only policy deletes the newest, and NaN would rank as the best (DESIGN): both are kept, scores are finite.
        keep = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(keep_newest),
                preservation_policy.BestN(
                    get_metric_fn=lambda m: (m["score"], -m["tick"]),  # type: ignore[arg-type,return-value]
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        # A thread of our own: Orbax's has no hook after a save is final, and the checksums are taken then.
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._saving: Future[None] | None = None
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=keep,
                cleanup_tmp_directories=True,
                enable_async_checkpointing=False,
            ),
        )

    def save(self, tick: int, state: Any, record: dict[str, Any], score: float) -> None:
        """Begins to save in the background; waits first for the save before, and raises what made that fail.

        Args:
          tick: the checkpoint's name.
          state: pytree of NumPy arrays, which must not change afterwards.
          record: JSON values.
          score: what `keep_best` ranks by, more is better; -inf if there is none.
        """
        self.wait()
        self._saving = self._thread.submit(self._save, tick, state, record, score)

    def wait(self) -> None:
        """Waits until the save under way is on the disk; raises what made it fail."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def restore(self, tick: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Returns the state, NumPy arrays in the structure of `like`, and the record of a checkpoint."""
        restored = self._manager.restore(
            tick, args=ocp.args.Composite(state=ocp.args.StandardRestore(like), record=ocp.args.JsonRestore())
        )
        return restored.state, restored.record

    def restore_params(self, tick: int) -> Any:
        """Returns the parameters of a checkpoint, nested dicts of NumPy arrays."""
        restored = self._manager.restore(tick, args=ocp.args.Composite(state=ocp.args.StandardRestore()))
        return restored.state["params"]

    def newest_first(self) -> Iterator[tuple[int, str | None]]:
        """Yields checkpoints, newest first: the tick, and None or what is wrong with it."""
        for tick in sorted(self._manager.all_steps(), reverse=True):
            yield tick, damage(self._folder / str(tick))

    def delete(self, tick: int) -> None:
        """Deletes a checkpoint."""
        shutil.rmtree(self._folder / str(tick))
        self._manager.reload()

    def ticks(self) -> list[int]:
        """Returns the ticks of the checkpoints that are kept."""
        self.wait()
        return sorted(self._manager.all_steps())

    def close(self) -> None:
        """Waits for the save under way and gives up the background thread."""
        self._thread.shutdown()
        self._manager.close()

    def _save(self, tick: int, state: Any, record: dict[str, Any], score: float) -> None:
        lowest = float(np.finfo(np.float32).min)
        self._manager.save(
            tick,
            args=ocp.args.Composite(state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)),
            metrics={"score": max(score, lowest), "tick": tick},
        )
        folder = self._folder / str(tick)
        new = folder / f"{CHECKSUMS}.new"
        new.write_text(json.dumps(_checksums(folder), indent=1))
        new.replace(folder / CHECKSUMS)


def damage(folder: Path) -> str | None:
    """Returns what is wrong with a checkpoint, or None if every file has its checksum."""
    try:
        expected = json.loads((folder / CHECKSUMS).read_text())
    except FileNotFoundError:
        return "its saving was interrupted"
    except (OSError, ValueError):
        return f"{CHECKSUMS} cannot be read"
    found = _checksums(folder)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"file {name} is missing"
        if found[name] != expected.get(name):
            return f"file {name} is damaged (checksum differs)"
    return None


def _checksums(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(CHECKSUMS))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
