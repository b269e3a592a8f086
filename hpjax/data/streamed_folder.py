"""A folder or tar file of pictures as a data set that is streamed from the disk."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from hpjax.data import cache, labelled, memory, picture_files, survey
from hpjax.data.dataset import SPLITS, Dataset, in_order
from hpjax.data.decode import some_of
from hpjax.data.notes import say
from hpjax.data.pictures import Pictures, Streamed
from hpjax.errors import DataError

_FORMAT = 1
"""To be raised when the same files give another survey."""


def identity(root: Path, listing: picture_files.Found) -> tuple[Any, ...]:
    """Returns what pictures in a cache are known by: names, sizes and times of their files, and what decodes them."""
    # Two archives may have the same name, size and time: the path is part of what they are called.
    own = root.stat().st_mtime_ns if root.is_file() else 0
    return PIL.__version__, str(root.resolve()), own, *listing[:4]


def too_large(root: Path, listing: picture_files.Found, image_size: int | None) -> bool:
    """Returns whether all pictures, decoded, would take more than half of the memory that is left."""
    left = memory.available()
    # A file is not packed a hundred times: most folders need no look at a picture.
    if left is None or (image_size is None and 200 * sum(listing.sizes) <= left):
        return False
    shape = (image_size, image_size, 3) if image_size is not None else Pictures(root, listing, None).shape
    return too_many(len(listing.pictures), shape)


def too_many(pictures: int, shape: tuple[int, ...]) -> bool:
    """Returns whether so many decoded pictures of a shape would take more than half of the memory that is left."""
    left = memory.available()
    return left is not None and 2 * math.prod(shape) * pictures > left


def tell_bad(root: Path, bad: Mapping[str, str], total: int, bad_files: str) -> None:
    """Says that pictures are skipped, or refuses them: reasons by path of some of them all."""
    what = f"{len(bad)} of {total} pictures in '{root}' cannot be read: {some_of(dict(bad))}"
    if bad_files != "skip":
        raise DataError(f"dataset 'image_folder': {what}; mend or remove them, or give --bad_files=skip")
    say(f"skipped: {what}")


def streamed(
    root: Path,
    listing: picture_files.Found,
    image_size: int | None,
    fractions: Mapping[str, float | None],
    split_seed: int,
    bad_files: str,
    cache_folder: Path,
    workers: int | None,
) -> Dataset:
    """Returns the data set that `image_folder` is, its pictures on the disk; arguments as there and in `labelled.parts`."""
    pictures = Pictures(root, listing, image_size)
    of_pictures = cache.key(_FORMAT, *identity(root, listing), image_size)
    of_splits = cache.key(of_pictures, sorted(fractions.items()), split_seed)
    bad_path = cache_folder / f"bad_pictures-{of_pictures}.npz"
    bad = {name: reason for name, reason in (cache.load(bad_path) or {"bad": np.array([])})["bad"].tolist()}
    while True:
        found = labelled.labelled(root, listing, bad)
        parts = labelled.parts(root, found.number, *found[1:4], fractions, split_seed)
        numbers, y = (np.concatenate([parts[split][i] for split in SPLITS]) for i in (0, 1))
        dataset = Dataset(
            "image_folder",
            survey.stand_in(pictures, len(numbers)),
            y,
            in_order([len(parts[split][1]) for split in SPLITS]),
            num_classes=len(found.class_names),
            class_names=tuple(found.class_names.tolist()),
            stream=Streamed(pictures, numbers, "", workers),
        )
        dataset, more = survey.surveyed(dataset, cache_folder / f"streamed_pictures-{of_splits}.npz")
        bad |= {pictures.name(number): reason for number, reason in more.items()}
        if more:
            cache.store(bad_path, {"bad": np.array(list(bad.items()), np.str_).reshape(-1, 2)})
        if bad:
            tell_bad(root, bad, len(pictures), bad_files)
        # Without those that are bad the splits, and the mean, are others.
        if not more:
            return dataset
