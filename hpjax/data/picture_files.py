"""Where pictures lie: in a folder or in a tar file, as SPLIT/CLASS/NAME or CLASS/NAME."""

import collections
import gzip
import lzma
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from hpjax.data.decode import Read
from hpjax.errors import DataError, did_you_mean

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_EXPECTED = "expected train/CLASS/PICTURE, and val and test alike, or CLASS/PICTURE"
_BLOCK = 1 << 20
_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error)


class Found(NamedTuple):
    """What lies in a folder or an archive.

    Attributes:
      pictures: paths below it, with slashes.
      sizes: bytes of each.
      stamps: when each was last changed, nanoseconds.
      folders: paths of folders below it; not all, for an archive need not name them.
      starts: where in a tar file that is not packed each begins, bytes; empty for a folder.
    """

    pictures: list[str]
    sizes: list[int]
    stamps: list[int]
    folders: list[str]
    starts: list[int]


class Arranged(NamedTuple):
    """Pictures by split and class.

    Attributes:
      splits: 'train', 'val' or 'test' of each picture.
      labels: class of each picture, an index into `class_names`.
      class_names: sorted names of the class folders.
      present: the splits that have a folder of their own; only 'train' where none has.
    """

    splits: list[str]
    labels: list[int]
    class_names: tuple[str, ...]
    present: tuple[str, ...]


def scan(root: Path) -> Found:
    """Returns what lies in a folder or a tar file.

    Raises:
      DataError: it cannot be read, or a picture in an archive is a link or device or leads out of it.
    """
    found = _scan_folder(root) if root.is_dir() else _scan_tar(root)
    if not found.pictures:
        raise DataError(f"dataset 'image_folder': '{root}' has no picture ({', '.join(SUFFIXES)}); {_EXPECTED}")
    return found


def reads(root: Path, found: Found) -> Iterator[Read]:
    """Yields a function for each picture that returns its content; of an archive, in its order, the content is read."""
    if root.is_dir():
        for path in found.pictures:
            yield (root / path).read_bytes
        return
    wanted = set(found.pictures)
    try:
        with tarfile.open(root) as tar:
            for member in tar:
                if _inside(member.name) in wanted and member.isreg():
                    content = tar.extractfile(member).read()  # type: ignore[union-attr]
                    yield partial(bytes, content)
    except _DAMAGED as error:
        raise _damaged(root, error) from None
    except OSError as error:
        raise DataError(f"file '{root}' cannot be read: {error.strerror or error}") from None


def arrange(root: Path, found: Found) -> Arranged:
    """Returns which split and class each picture is of.

    Folders that all pictures have in common are left out, so an archive of one folder is as good as the folder.

    Args:
      root: for messages.
      found: what lies in it.

    Raises:
      DataError: a picture outside a class folder, a folder that is no split beside folders that are, classes that differ
        between the splits, fewer than two, or one without a picture.
    """
    below = _without_common([path.split("/") for path in found.pictures])
    depth = len(found.pictures[0].split("/")) - len(below[0])
    tops = sorted({parts[0] for parts in below if len(parts) > 1})
    has_splits = any(top in SPLIT_FOLDERS for top in tops)
    deep = 3 if has_splits else 2
    for path, parts in zip(found.pictures, below, strict=True):
        if len(parts) < deep:
            raise _refused(root, f"picture '{path}' lies in no class folder; {_EXPECTED}")
    names: dict[str, str] = {}
    for top in tops if has_splits else ():
        if top not in SPLIT_FOLDERS:
            near = did_you_mean(top, SPLIT_FOLDERS)
            raise _refused(root, f"folder '{top}' lies beside '{next(iter(names), 'train')}'; expected splits only{near}")
        if SPLIT_FOLDERS[top] in names.values():
            raise _refused(root, f"folder '{top}' is a second one for validation; expected one")
        names[top] = SPLIT_FOLDERS[top]
    if has_splits and "train" not in names:
        raise _refused(root, f"there is no folder train beside {', '.join(names)}; {_EXPECTED}")
    splits = [names[parts[0]] if has_splits else "train" for parts in below]
    classes = [parts[deep - 2] for parts in below]
    by_split = {split: {c for s, c in zip(splits, classes, strict=True) if s == split} for split in dict.fromkeys(splits)}
    for folder in (path.split("/")[depth:] for path in found.folders):
        split = names.get(folder[0]) if has_splits and folder else "train"
        if len(folder) == deep - 1 and split in by_split and folder[-1] not in by_split[split]:
            raise _refused(root, f"class folder '{'/'.join(folder)}' has no picture ({', '.join(SUFFIXES)})")
    for split, one in by_split.items():
        for other in sorted(one ^ by_split["train"]):
            here, there = (split, "train") if other in one else ("train", split)
            raise _refused(root, f"class folder '{other}' is in {here} but not in {there}; expected the same classes")
    class_names = tuple(sorted(by_split["train"]))
    if len(class_names) < 2:
        raise _refused(root, f"there is only the class '{class_names[0]}'; expected at least two class folders")
    index = {name: i for i, name in enumerate(class_names)}
    present = tuple(split for split in ("train", "val", "test") if split in by_split)
    return Arranged(splits, [index[name] for name in classes], class_names, present)


def _without_common(paths: Sequence[list[str]]) -> Sequence[list[str]]:
    while min(map(len, paths)) > 2 and len({parts[0] for parts in paths}) == 1 and paths[0][0] not in SPLIT_FOLDERS:
        paths = [parts[1:] for parts in paths]
    return paths


def _scan_folder(root: Path) -> Found:
    found: dict[str, tuple[int, int]] = {}
    folders: list[str] = []

    def refuse(error: OSError) -> None:
        raise DataError(f"folder '{error.filename}' cannot be read: {error.strerror}")

    # Links are followed to files and class folders, as people make subsets of them, but `seen` keeps out of circles.
    seen: set[tuple[int, int]] = set()
    for at, below, files in os.walk(root, followlinks=True, onerror=refuse):
        here = os.stat(at)
        if (here.st_dev, here.st_ino) in seen:
            below.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        below[:] = sorted(name for name in below if not _hidden(name))
        where = Path(at).relative_to(root)
        folders += [(where / name).as_posix() for name in below]
        for name in sorted(files):
            if _is_picture(name):
                found[(where / name).as_posix()] = _stat(Path(at) / name)
    sizes, stamps = ([one[i] for one in found.values()] for i in range(2))
    return Found(list(found), sizes, stamps, folders, [])


def _stat(path: Path) -> tuple[int, int]:
    """Returns size and time of change; zeros for what cannot be read, which is counted when it is decoded."""
    try:
        result = path.stat()
    except OSError:
        return 0, 0
    if not stat.S_ISREG(result.st_mode):
        # To read a pipe would wait for ever.
        raise DataError(f"picture '{path}' is no file; expected files only")
    return result.st_size, result.st_mtime_ns


def _scan_tar(root: Path) -> Found:
    found = Found([], [], [], [], [])
    try:
        with tarfile.open(root) as tar:
            for member in tar:
                _take(root, member, found)
            _expect_end(tar)
    except _DAMAGED as error:
        raise _damaged(root, error) from None
    except OSError as error:
        raise DataError(f"file '{root}' cannot be read: {error.strerror or error}") from None
    twice = [path for path, count in collections.Counter(found.pictures).items() if count > 1]
    if twice:
        raise DataError(f"file '{root}' has the picture '{twice[0]}' twice; expected it once")
    return found


def _take(root: Path, member: tarfile.TarInfo, found: Found) -> None:
    """Notes a member that is a picture or a folder."""
    path = _inside(member.name)
    if path is None:
        raise DataError(f"file '{root}' has a member '{member.name}', which leads out of it")
    # `tar -C FOLDER .` begins with the folder itself.
    if path == "." or any(map(_hidden, path.split("/"))):
        return
    if member.isdir():
        found.folders.append(path)
    elif _is_picture(path):
        if not member.isreg() or member.issparse():
            raise DataError(f"file '{root}' has a link or device '{path}'; expected files only")
        found.pictures.append(path)
        found.sizes.append(member.size)
        found.stamps.append(int(member.mtime))
        found.starts.append(member.offset_data)


def _expect_end(tar: tarfile.TarFile) -> None:
    """Refuses an archive that ends early, which tarfile takes for its end, and a packed one with another checksum."""
    file = tar.fileobj
    assert file is not None
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
    # The checksum stands behind all that is packed.
    while file.read(_BLOCK):
        pass


def _inside(name: str) -> str | None:
    """Returns a member's path, or None if it leads out of the archive."""
    path = PurePosixPath(name)
    return None if path.is_absolute() or ".." in path.parts else path.as_posix()


def _hidden(name: str) -> bool:
    return (name.startswith(".") and name != ".") or name == "__MACOSX"


def _is_picture(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base.lower().endswith(SUFFIXES) and not _hidden(base)


def _damaged(root: Path, error: Exception) -> DataError:
    # Of a file in no known form tarfile says so on one line and then why, form by form.
    reason = str(error).partition(":\n")[0]
    return DataError(f"file '{root}' is a damaged or truncated tar file, or none: {reason}; expected a whole one")


def _refused(root: Path, problem: str) -> DataError:
    return DataError(f"dataset 'image_folder': in '{root}' {problem}")
