"""Pictures of one's own: a folder or a tar file of SPLIT/CLASS/PICTURE or CLASS/PICTURE."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

from hpjax.data import cache, picture_files, splits
from hpjax.data.dataset import SPLITS, Dataset, create
from hpjax.data.decode import decode_all, some_of
from hpjax.data.notes import say
from hpjax.data.registry import DATASETS
from hpjax.errors import ConfigError, DataError

_FORMAT = 1
"""To be raised when the same files give other arrays."""


class _Pictures(NamedTuple):
    """Decoded pictures, sorted by split and path, and what was left out.

    Attributes:
      x: uint8 [pictures, height, width, 3].
      y: int32 [pictures].
      sizes: int64 [3], pictures of train, val and test.
      present: bool [3], which splits have a folder of their own.
      class_names: texts.
      bad: texts [unreadable, 2], name and reason.
    """

    x: np.ndarray
    y: np.ndarray
    sizes: np.ndarray
    present: np.ndarray
    class_names: np.ndarray
    bad: np.ndarray


@DATASETS.register
def image_folder(
    *,
    data_file: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    image_size: int | None = None,
    bad_files: str = "refuse",
    cache_dir: str | os.PathLike[str] | None = None,
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Returns pictures, x uint8 [examples, height, width, 3], each channel standardised; a class is a folder.

    What `decode.decode` says happens to each. The decoded arrays are kept in the cache folder until a file's name, size or
    time of change, or the size of the pictures, differs.

    Args:
      data_file: a folder, or a tar file (.tar, .tar.gz and others) of one, as named or in `data_dir`. In it lie
        train/CLASS/PICTURE, and val and test alike if they are there, or CLASS/PICTURE.
      data_dir: a folder to look in; None takes the environment's HPJAX_DATA_DIR.
      image_size: pixels a side: the shorter side is resized to it and the middle cut out; None leaves pictures, which must
        all be of one size, as they are.
      bad_files: what to do about pictures that cannot be read: 'refuse' them, or 'skip' them and say which.
      cache_dir: the cache folder; None is hpjax in the user's own.
      validation_fraction: share of the training pictures held out for validation; None is 0.2 if there is no folder val.
      test_fraction: share of the training pictures held out for the test; None is 0.2 if there is neither a folder val nor
        test, else 0.
      split_seed: seed of the stratified split of those.

    Raises:
      ConfigError: a fraction of a split that has a folder, or one out of range.
      DataError: the data is missing or in no such order, pictures cannot be read, or they differ in size.
    """
    root = _find(data_file, data_dir)
    found = _pictures(root, image_size, bad_files, cache.folder(cache_dir))
    present = dict(zip(SPLITS, found.present.tolist(), strict=True))
    fractions = {"val": validation_fraction, "test": test_fraction}
    for split, setting in (("val", "validation_fraction"), ("test", "test_fraction")):
        if present[split] and fractions[split] is not None:
            raise ConfigError(
                f"{setting} is {fractions[split]}, but '{root}' has a folder {split}; expected it to be left out"
            )
    alone = not present["val"] and not present["test"]
    defaults = {"val": 0.0 if present["val"] else 0.2, "test": 0.2 if alone else 0.0}
    shares = {split: defaults[split] if share is None else share for split, share in fractions.items()}
    ends = np.cumsum(found.sizes)[:-1]
    x, y = (dict(zip(SPLITS, np.split(array, ends), strict=True)) for array in (found.x, found.y))
    cut = splits.stratified(
        y["train"], validation_fraction=shares["val"], test_fraction=shares["test"], split_seed=split_seed
    )
    parts = {
        split: (x[split], y[split]) if split != "train" and present[split] else (x["train"][index], y["train"][index])
        for split, index in zip(SPLITS, cut, strict=True)
    }
    names = tuple(found.class_names.tolist())
    return create(
        "image_folder",
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        num_classes=len(names),
        per_channel=True,
        class_names=names,
    )


def _find(data_file: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> Path:
    data_dir = data_dir or os.environ.get("HPJAX_DATA_DIR")
    given = Path(data_file).expanduser()
    tried = list(dict.fromkeys(Path(os.path.abspath(path)) for path in (given, Path(data_dir or "").expanduser() / given)))
    for path in tried:
        if path.exists():
            return path
    advice = "" if data_dir else "; --data_dir=FOLDER or HPJAX_DATA_DIR names another place to look"
    where = " or ".join(f"'{path}'" for path in tried)
    raise DataError(
        f"dataset 'image_folder': no folder or tar file {where}; expected a folder of pictures of your own{advice}"
    )


def _pictures(root: Path, image_size: int | None, bad_files: str, cache_folder: Path) -> _Pictures:
    """Returns the decoded pictures, from the cache if they are there, and says or refuses what cannot be read."""
    listing = picture_files.scan(root)
    # Two archives may have the same name, size and time: the path is part of what they are called.
    own = root.stat().st_mtime_ns if root.is_file() else 0
    key = cache.key(_FORMAT, PIL.__version__, str(root.resolve()), own, *listing, image_size)
    path = cache_folder / f"image_folder-{key}.npz"
    arrays = cache.load(path)
    if arrays is not None and set(arrays) == set(_Pictures._fields):
        pictures = _Pictures(**arrays)
    else:
        pictures = _decoded(root, listing, image_size)
        cache.store(path, pictures._asdict())
    if len(pictures.bad):
        bad = {name: reason for name, reason in pictures.bad.tolist()}
        what = f"{len(bad)} of {len(listing.pictures)} pictures in '{root}' cannot be read: {some_of(bad)}"
        if bad_files != "skip":
            raise DataError(f"dataset 'image_folder': {what}; mend or remove them, or give --bad_files=skip")
        say(f"skipped: {what}")
    return pictures


def _decoded(root: Path, listing: picture_files.Found, image_size: int | None) -> _Pictures:
    arranged = picture_files.arrange(root, listing)
    number = np.array([SPLITS.index(split) for split in arranged.splits])
    order = sorted(range(len(number)), key=lambda i: (number[i], listing.pictures[i]))
    places = np.argsort(order)
    mean_bytes = sum(listing.sizes) / len(listing.sizes)
    reads = picture_files.reads(root, listing)
    x, bad = decode_all(listing.pictures, reads, places.tolist(), image_size, mean_bytes)
    y, number = np.array(arranged.labels, np.int32)[order], number[order]
    if bad:
        good = np.array([listing.pictures[i] not in bad for i in order])
        x, y, number = x[good], y[good], number[good]
        lost = sorted(set(range(len(arranged.class_names))) - set(y[number == 0].tolist()))
        if lost:
            where = f"of class '{arranged.class_names[lost[0]]}' in '{root}'"
            raise DataError(f"dataset 'image_folder': no training picture {where} can be read: {some_of(bad)}")
    return _Pictures(
        x,
        y,
        np.bincount(number, minlength=3),
        np.array([split in arranged.present for split in SPLITS]),
        np.array(arranged.class_names),
        np.array(list(bad.items()), np.str_).reshape(-1, 2),
    )
