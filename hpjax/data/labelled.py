"""Pictures with their labels, split by split: as the folders say, and as fractions say where they say nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpjax.data import picture_files, splits
from hpjax.data.dataset import SPLITS, Part
from hpjax.data.decode import some_of
from hpjax.errors import ConfigError, DataError


class Labelled(NamedTuple):
    """Pictures sorted by split and path.

    Attributes:
      number: int64 [pictures], places in the listing.
      y: int32 [pictures].
      sizes: int64 [3], pictures of train, val and test.
      present: bool [3], which splits have a folder of their own.
      class_names: texts.
    """

    number: np.ndarray
    y: np.ndarray
    sizes: np.ndarray
    present: np.ndarray
    class_names: np.ndarray


def labelled(root: Path, listing: picture_files.Found, bad: Mapping[str, str]) -> Labelled:
    """Returns the pictures of a listing with their labels.

    Args:
      root: for messages.
      listing: what lies in it.
      bad: reasons by path of pictures to leave out.

    Raises:
      DataError: see `picture_files.arrange`; or a class has no training picture left.
    """
    arranged = picture_files.arrange(root, listing)
    split = np.array([SPLITS.index(name) for name in arranged.splits])
    order = np.array(sorted(range(len(split)), key=lambda i: (split[i], listing.pictures[i])))
    if bad:
        order = order[[listing.pictures[i] not in bad for i in order]]
    y, split = np.array(arranged.labels, np.int32)[order], split[order]
    lost = sorted(set(range(len(arranged.class_names))) - set(y[split == 0].tolist()))
    if lost:
        where = f"of class '{arranged.class_names[lost[0]]}' in '{root}'"
        raise DataError(f"dataset 'image_folder': no training picture {where} can be read: {some_of(dict(bad))}")
    present = np.array([name in arranged.present for name in SPLITS])
    return Labelled(order, y, np.bincount(split, minlength=3), present, np.array(arranged.class_names))


def parts(
    root: Path,
    x: np.ndarray,
    y: np.ndarray,
    sizes: np.ndarray,
    present: np.ndarray,
    fractions: Mapping[str, float | None],
    split_seed: int,
) -> dict[str, Part]:
    """Returns inputs and labels by split.

    Args:
      root: for messages.
      x: what stands for each picture, [pictures, ...], in the order of `Labelled`.
      y: see `Labelled`.
      sizes: see `Labelled`.
      present: see `Labelled`.
      fractions: shares of the training pictures for val and test; None: 0.2 for a split that is missing, the test only
        where val is missing too.
      split_seed: of the stratified split of those.

    Raises:
      ConfigError: a fraction of a split that has a folder, or one out of range.
    """
    there = dict(zip(SPLITS, present.tolist(), strict=True))
    for split, setting in (("val", "validation_fraction"), ("test", "test_fraction")):
        if there[split] and fractions[split] is not None:
            raise ConfigError(
                f"{setting} is {fractions[split]}, but '{root}' has a folder {split}; expected it to be left out"
            )
    alone = not there["val"] and not there["test"]
    defaults = {"val": 0.0 if there["val"] else 0.2, "test": 0.2 if alone else 0.0}
    shares = {split: defaults[split] if share is None else share for split, share in fractions.items()}
    ends = np.cumsum(sizes)[:-1]
    xs, ys = (dict(zip(SPLITS, np.split(array, ends), strict=True)) for array in (x, y))
    cut = splits.stratified(
        ys["train"], validation_fraction=shares["val"], test_fraction=shares["test"], split_seed=split_seed
    )
    return {
        split: (xs[split], ys[split]) if split != "train" and there[split] else (xs["train"][index], ys["train"][index])
        for split, index in zip(SPLITS, cut, strict=True)
    }
