"""Data sets of zeros in the sizes of real ones, for what is said of a run before its data are read."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpjax.data import image_folder, labelled, picture_files, splits
from hpjax.data.dataset import Dataset, in_order
from hpjax.data.pictures import Pictures, Streamed
from hpjax.data.streamed_folder import too_many
from hpjax.errors import DataError

PUBLISHED: dict[str, tuple[int, int, tuple[int, ...], int]] = {
    "mnist": (60_000, 10_000, (28, 28, 1), 10),
    "fashion_mnist": (60_000, 10_000, (28, 28, 1), 10),
    "cifar10": (50_000, 10_000, (32, 32, 3), 10),
    "cifar100": (50_000, 10_000, (32, 32, 3), 100),
}
"""Data sets by name: examples for training (with validation) and test, shape of one, classes."""

IMAGENET = ((1_281_167, 50_000, 0), 1000)
"""Pictures for training, validation and test, and classes, of the ILSVRC 2012 set: what a folder `imagenet` is taken for."""


class StandIn(NamedTuple):
    """Zeros in the place of data.

    Attributes:
      dataset: they, in no memory.
      known: where the sizes are from.
    """

    dataset: Dataset
    known: str


def stand_in(name: str, settings: Mapping[str, Any]) -> StandIn | None:
    """Returns zeros in the sizes of a data set, or None where they cannot be known without reading it.

    Args:
      name: of the data set.
      settings: its settings, by name.

    Raises:
      ConfigError, DataError: as the data set itself, for its files' names and for fractions of splits.
    """
    if name == "image_folder":
        return None if settings["image_size"] is None else _image_folder(settings)
    if name not in PUBLISHED:
        return None
    training, test, shape, classes = PUBLISHED[name]
    if settings.get("cifar_labels") == "coarse":
        classes = 20
    train, val, _ = splits.sizes(training, validation_fraction=settings["validation_fraction"])
    return StandIn(_zeros(name, (train, val, test), shape, classes), "by its published sizes, not read")


def _image_folder(settings: Mapping[str, Any]) -> StandIn:
    size, wanted = settings["image_size"], settings["stream"]
    try:
        root = image_folder.find(settings["data_file"], settings["data_dir"])
    except DataError:
        if Path(settings["data_file"]).name.lower() != "imagenet":
            raise
        root, listing = Path(settings["data_file"]), picture_files.Found([], [], [], [], [])
        (sizes, classes), known = IMAGENET, "by ImageNet's published sizes, not read"
    else:
        listing = picture_files.scan(root)
        found = labelled.labelled(root, listing, {})
        fractions = {split: settings[f"{name}_fraction"] for split, name in (("val", "validation"), ("test", "test"))}
        parts = labelled.parts(root, found.number, *found[1:4], fractions, settings["split_seed"])
        sizes = len(parts["train"][1]), len(parts["val"][1]), len(parts["test"][1])
        classes, known = len(found.class_names), "its files counted, none read"
    shape = (size, size, 3)
    dataset = _zeros("image_folder", sizes, shape, classes)
    if wanted == "on" or (wanted == "auto" and too_many(sum(sizes), shape)):
        pictures = Pictures(root, listing, size)
        numbers = np.arange(sum(sizes))
        dataset = dataclasses.replace(dataset, stream=Streamed(pictures, numbers, "", settings["input_workers"]))
    return StandIn(dataset, known)


def _zeros(name: str, sizes: tuple[int, ...], shape: tuple[int, ...], classes: int) -> Dataset:
    # One zero seen from everywhere: it takes no memory before it lies on a device.
    x = np.broadcast_to(np.zeros((), np.uint8), (sum(sizes), *shape))
    scale, shift = ((1 / 64,) * 3, (-2.0,) * 3) if shape[-1] == 3 else (1 / 64, -2.0)
    return Dataset(name, x, np.zeros(sum(sizes), np.int32), in_order(sizes), classes, scale=scale, shift=shift)
