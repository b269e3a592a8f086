"""A folder of arrays that took long to make, a file each; the zip format's checksums tell a damaged one."""

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpjax.data.notes import say

_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def folder(cache_dir: str | os.PathLike[str] | None) -> Path:
    """Returns the cache's folder: the one given, or hpjax in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""
    if cache_dir:
        return Path(cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hpjax"


def key(*parts: Any) -> str:
    """Returns a name for what was made of these values; equal for equal ones only."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def load(path: Path) -> dict[str, np.ndarray] | None:
    """Returns the arrays of a cached file, or None if it is not there or damaged, which is said."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except _DAMAGED as error:
        say(f"cached file '{path}' is damaged and is made again: {error}")
        return None


def store(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a file, which has its name only when it is whole; if it cannot, that is said and nothing else."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", suffix=".npz", delete=False) as file:
            temporary = file.name
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, path)
    except OSError as error:
        say(f"the decoded pictures are not cached: '{path}' cannot be written: {error.strerror or error}")
    else:
        return
    if temporary:
        Path(temporary).unlink(missing_ok=True)
