"""Pictures of one's own: a folder or a tar file of SPLIT/CLASS/PICTURE or CLASS/PICTURE."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpjax.data import cache, labelled, picture_files
from hpjax.data.dataset import Dataset, create
from hpjax.data.decode import decode_all
from hpjax.data.registry import DATASETS
from hpjax.data.streamed_folder import identity, streamed, tell_bad, too_large
from hpjax.errors import DataError

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
    stream: str = "auto",
    input_workers: int | None = None,
) -> Dataset:
    """Returns pictures, x uint8 [examples, height, width, 3], each channel standardised; a class is a folder.

    What `decode.decode` says happens to each. The decoded arrays are kept in the cache folder until a file's name, size or
    time of change, or the size of the pictures, differs. Pictures that are streamed are decoded while a run needs them; all
    are looked at once before, and what was found is kept there.

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
      stream: 'on' streams the pictures from the disk, 'off' decodes all into memory, 'auto' streams those that would take
        more than half of the memory that is left. The data set is the same.
      input_workers: processes that decode streamed pictures, see `streaming.blocks`.

    Raises:
      ConfigError: a fraction of a split that has a folder, or one out of range.
      DataError: the data is missing or in no such order, pictures cannot be read, or they differ in size.
    """
    root = find(data_file, data_dir)
    listing = picture_files.scan(root)
    fractions = {"val": validation_fraction, "test": test_fraction}
    folder = cache.folder(cache_dir)
    if stream == "on" or (stream == "auto" and too_large(root, listing, image_size)):
        return streamed(root, listing, image_size, fractions, split_seed, bad_files, folder, input_workers)
    found = _pictures(root, listing, image_size, bad_files, folder)
    parts = labelled.parts(root, found.x, found.y, found.sizes, found.present, fractions, split_seed)
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


def find(data_file: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> Path:
    """Returns where a folder or tar file of pictures lies; arguments as in `image_folder`.

    Raises:
      DataError: it is nowhere.
    """
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


def _pictures(
    root: Path, listing: picture_files.Found, image_size: int | None, bad_files: str, cache_folder: Path
) -> _Pictures:
    """Returns the decoded pictures, from the cache if they are there, and says or refuses what cannot be read."""
    path = cache_folder / f"image_folder-{cache.key(_FORMAT, *identity(root, listing), image_size)}.npz"
    arrays = cache.load(path)
    if arrays is not None and set(arrays) == set(_Pictures._fields):
        pictures = _Pictures(**arrays)
    else:
        pictures = _decoded(root, listing, image_size)
        cache.store(path, pictures._asdict())
    if len(pictures.bad):
        tell_bad(root, {name: reason for name, reason in pictures.bad.tolist()}, len(listing.pictures), bad_files)
    return pictures


def _decoded(root: Path, listing: picture_files.Found, image_size: int | None) -> _Pictures:
    order = labelled.labelled(root, listing, {}).number
    mean_bytes = sum(listing.sizes) / len(listing.sizes)
    reads = picture_files.reads(root, listing)
    x, bad = decode_all(listing.pictures, reads, np.argsort(order).tolist(), image_size, mean_bytes)
    found = labelled.labelled(root, listing, bad)
    if bad:
        x = x[[listing.pictures[i] not in bad for i in order]]
    reasons = np.array(list(bad.items()), np.str_).reshape(-1, 2)
    return _Pictures(x, found.y, found.sizes, found.present, found.class_names, reasons)
