"""A run's folder: one owner at a time, whole files only, never another run's."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from hpjax import flags
from hpjax.config import ELASTIC, FIELDS, NOT_PART_OF_A_RUN, PLACES, Config, to_text
from hpjax.errors import ConfigError, RunFolderError

FLAGS, METADATA, METRICS, EVENTS, CHECKPOINTS, LOCK, JOURNAL, PARAMS = (
    "flags.txt",
    "metadata.json",
    "metrics.jsonl",
    "tb",
    "checkpoints",
    ".lock",
    "study.journal",
    "params",
)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an operating system's error under `path` into one line for the person."""
    try:
        yield
    except OSError as error:
        raise explanation(error, path) from None


def explanation(error: OSError, path: Path) -> RunFolderError:
    """Returns the one line for an operating system's error under `path`."""
    reasons = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
    reason = reasons.get(error.errno or 0, (error.strerror or str(error)).lower())
    return RunFolderError(f"cannot write to '{error.filename or path}': {reason}")


def read_metadata(folder: Path) -> dict[str, Any]:
    """Returns the content of a run folder's metadata.json, empty if there is none yet or it is damaged."""
    try:
        content = json.loads((folder / METADATA).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class RunFolder:
    """An open run folder, locked until `close`.

    Attributes:
      path: the folder.
      resumed: whether it held this run already.
    """

    def __init__(self, path: Path, lock: IO[str]):
        self.path = path
        self.resumed = False
        self._lock = lock

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """Makes the folder if need be, and locks it.

        Raises:
          RunFolderError: it is no folder, cannot be written, is used by another run, or holds other things than a run.
        """
        path = Path(path)
        if "[" in str(path.absolute()):
            raise RunFolderError(f"run folder '{path}' has '[' in its path, where Orbax cannot write; expected another name")
        # Asking is explained too: a name may be too long to exist, a folder above closed to this person.
        with explained(path):
            if path.exists() and not path.is_dir():
                raise RunFolderError(f"run folder '{path}' is a file; expected a folder or a new name")
            if path.is_dir() and not (path / FLAGS).exists():
                strangers = [entry.name for entry in path.iterdir() if entry.name not in (LOCK, FLAGS + ".new")]
                if strangers:
                    raise RunFolderError(
                        f"'{path}' holds '{sorted(strangers)[0]}' and is no run folder; expected a new name"
                    )
            path.mkdir(parents=True, exist_ok=True)
            lock = (path / LOCK).open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise RunFolderError(f"run folder '{path}' is in use by process {owner}; expected another folder") from None
        folder = cls(path, lock)
        try:
            with explained(path):
                lock.truncate(0)
                os.write(lock.fileno(), f"{os.getpid()}\n".encode())
        except RunFolderError:
            folder.close()
            raise
        return folder

    def adopt(self, config: Config) -> Config:
        """Returns the config to run: the folder's own where it holds this run, else `config`.

        Args:
          config: a resolved config, `auto` still in it.

        Raises:
          RunFolderError: the folder holds a run with other flags, or `resume` is false and it holds any run.
        """
        if not (self.path / FLAGS).exists():
            return config
        # A study may have taken a day: a run never takes its place, with --overwrite neither.
        if (self.path / JOURNAL).exists():
            raise RunFolderError(f"'{self.path}' holds a study, not a run; expected a new name")
        if config.overwrite:
            self._delete_run()
            return config
        if not config.resume:
            raise RunFolderError(f"'{self.path}' holds a run and --noresume was given; expected --overwrite or a new name")
        stored = self._stored()
        changed = changes(FIELDS, stored, config, (*NOT_PART_OF_A_RUN, *PLACES, *ELASTIC))
        if changed:
            raise RunFolderError(
                f"'{self.path}' holds a run with other flags ({'; '.join(changed.values())}); expected the same flags, "
                "--overwrite or a new name"
            )
        self.resumed = True
        places = [name for name in (*NOT_PART_OF_A_RUN, *PLACES) if name in FIELDS]
        places += [name for name in ELASTIC if getattr(config, name) != "auto"]
        return stored.replace(**{name: getattr(config, name) for name in places})

    def write(self, name: str, text: str) -> None:
        """Writes a whole file: to a temporary name, then renamed."""
        new = self.path / (name + ".new")
        with explained(new):
            try:
                with new.open("w") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(self.path / name)
            except OSError:
                new.unlink(missing_ok=True)
                raise

    def metadata(self) -> dict[str, Any]:
        """Returns the content of metadata.json, empty if there is none yet or it is damaged."""
        return read_metadata(self.path)

    def update_metadata(self, **changes: Any) -> None:
        """Writes metadata.json with some entries changed."""
        self.write(METADATA, json.dumps({**self.metadata(), **changes}, indent=2) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """Returns the log points in metrics.jsonl."""
        path = self.path / METRICS
        try:
            return [json.loads(line) for line in path.read_text().splitlines()]
        except (OSError, ValueError):
            raise RunFolderError(f"'{path}' is missing or damaged; expected --overwrite or a new name") from None

    def close(self) -> None:
        """Gives the folder back; one that holds nothing but the lock is removed."""
        if {entry.name for entry in self.path.iterdir()} == {LOCK}:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

    def _stored(self) -> Config:
        try:
            return flags.parse(["flags.txt", f"--flagfile={self.path / FLAGS}"])
        except ConfigError as error:
            raise RunFolderError(f"'{self.path / FLAGS}' cannot be read: {error}; expected --overwrite") from None

    def _delete_run(self) -> None:
        with explained(self.path):
            for name in (EVENTS, CHECKPOINTS):
                if (self.path / name).exists():
                    shutil.rmtree(self.path / name)
            # flags.txt is the last: without it what is left over would look like a stranger's.
            for name in (METRICS, METADATA, FLAGS):
                (self.path / name).unlink(missing_ok=True)


def changes(names: Iterable[str], stored: Any, given: Any, but: Sequence[str]) -> dict[str, str]:
    """Returns how settings differ from those that a folder holds, as texts by name; `auto` differs from nothing.

    Args:
      names: the settings to compare.
      stored: the folder's.
      given: those that were asked for.
      but: settings that may differ.
    """
    pairs = ((name, getattr(stored, name), getattr(given, name)) for name in names if name not in but)
    return {
        name: f"{name} {_shown(name, old)} -> {_shown(name, new)}"
        for name, old, new in pairs
        if old != new and new != "auto"
    }


def _shown(name: str, value: Any) -> str:
    return "(none)" if value is None else to_text(name, value)
