"""Downloads the published files of a data set; a file has its name only when its checksum is right."""

import errno
import hashlib
import http
import http.client
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from hpjax.data.notes import Progress, say
from hpjax.data.published import CATALOGUE, File
from hpjax.errors import DataError, listed

_BLOCK = 1 << 18
_TIMEOUT = 30.0
_MB = 1e6


def fetch(name: str, data_dir: str | os.PathLike[str] | None, address: str | None = None) -> list[Path]:
    """Downloads the files of a data set into the folder `data_dir/name`, those that are not there yet.

    A download that was cut off goes on where it was, if the server can do that.

    Args:
      name: an entry of `CATALOGUE`.
      data_dir: the data folder, made if need be; None takes the environment's HPJAX_DATA_DIR.
      address: where the files are had instead of where they are published, http or https.

    Returns:
      The files' paths.

    Raises:
      DataError: an unknown name, no folder, a file of that name with other contents, an answer other than the file, or a
        file that cannot be written.
    """
    if name not in CATALOGUE:
        raise DataError(f"data set '{name}' cannot be fetched{listed(name, CATALOGUE, 'those that can:')}")
    given = data_dir or os.environ.get("HPJAX_DATA_DIR")
    if not given:
        raise DataError(f"fetch needs a folder for '{name}': give --data_dir or the environment variable HPJAX_DATA_DIR")
    published = CATALOGUE[name]
    address = published.address if address is None else address.rstrip("/") + "/"
    if not address.startswith(("http://", "https://")):
        raise DataError(f"from is '{address}'; expected an address that begins with http:// or https://")
    folder = Path(given).expanduser() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"folder '{folder}' cannot be made: {error.strerror}") from None
    return [_one(file, folder, address + file.name) for file in published.files]


def _one(file: File, folder: Path, url: str) -> Path:
    path, part = folder / file.name, folder / f"{file.name}.part"
    try:
        if path.exists():
            _expect(file, path)
            say(f"'{path}' is there already")
            return path
        if not part.exists() or part.stat().st_size < file.size:
            _download(file, part, url)
        _check(file, part, url)
        os.replace(part, path)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        raise DataError(f"'{url}' answers {error.code} {error.reason}; --from=ADDRESS names a mirror") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        raise DataError(
            f"'{url}' cannot be had: {_reason(error)}; is there a network? the same command goes on where it was"
        ) from None
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error)).lower()
        raise DataError(f"file '{error.filename or part}' cannot be read or written: {reason}") from None
    say(f"'{path}' is fetched, its checksum is right")
    return path


def _expect(file: File, path: Path) -> None:
    if _sha256(path) != file.sha256:
        raise DataError(f"file '{path}' is not the published one; expected SHA-256 {file.sha256}: move it away to fetch it")


def _download(file: File, part: Path, url: str) -> None:
    """Writes what the server sends to `part`, behind what is there if the server agrees."""
    there = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "hpjax", **({"Range": f"bytes={there}-"} if there else {})}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        goes_on = answer.status == 206 and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {there}-")
        done = there if goes_on else 0
        with part.open("ab" if goes_on else "wb") as out, Progress(file.name, file.size / _MB, "MB") as progress:
            while done <= file.size and (block := answer.read(_BLOCK)):
                out.write(block)
                done += len(block)
                progress.update(done / _MB)
    if done < file.size:
        raise http.client.IncompleteRead(b"", file.size - done)


def _check(file: File, part: Path, url: str) -> None:
    """Deletes and refuses a file that is not the published one: nothing could be mended by going on."""
    size = part.stat().st_size
    found = _sha256(part)
    if (size, found) != (file.size, file.sha256):
        part.unlink()
        sizes = "" if size == file.size else f" and {size} bytes or more; expected {file.size}"
        raise DataError(f"'{url}' has SHA-256 {found}{sizes}; expected {file.sha256}: it is not the published file")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Any) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return f"the connection ended {error.expected} bytes too early"
    reason = getattr(error, "reason", error)
    return " ".join((getattr(reason, "strerror", None) or str(reason) or type(error).__name__).lower().split())
