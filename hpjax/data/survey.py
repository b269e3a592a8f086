"""A data set of pictures that are streamed, and the first look at all of them that it takes: once, then from the cache."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpjax.data import cache
from hpjax.data.dataset import Dataset
from hpjax.data.notes import Progress
from hpjax.data.pictures import Pictures, Streamed
from hpjax.data.scaling import counts, of_counts
from hpjax.data.streaming import PLACES_IN_A_BLOCK, Listed, blocks


class Survey(NamedTuple):
    """What all pictures were found to be.

    Attributes:
      counts: int64 [3, 256], how often each value comes in each channel of the training pictures.
      digest: text, see `Streamed`.
    """

    counts: np.ndarray
    digest: np.ndarray


def surveyed(dataset: Dataset, path: Path) -> tuple[Dataset, dict[int, str]]:
    """Returns a data set of streamed pictures, standardised and with its digest; or the reasons why pictures are bad.

    Args:
      dataset: a data set with a stream, whose digest is not known.
      path: where in the cache it is remembered.

    Returns:
      The data set, and reasons by picture for those that cannot be read; if there are any the data set is as it was.

    Raises:
      DataError: pictures differ in size.
    """
    assert dataset.stream is not None
    known = cache.load(path)
    if known is None or set(known) != set(Survey._fields):
        found, bad = _look(dataset, dataset.stream)
        if bad:
            return dataset, bad
        known = found._asdict()
        cache.store(path, known)
    scale, shift = of_counts(known["counts"], per_channel=True)
    stream = dataclasses.replace(dataset.stream, digest=str(known["digest"]))
    return dataclasses.replace(dataset, scale=scale, shift=shift, stream=stream), {}


def _look(dataset: Dataset, stream: Streamed) -> tuple[Survey, dict[int, str]]:
    """Reads every picture once, in the order of the data set."""
    training, total = dataset.splits["train"][1], len(stream.numbers)
    found, bad = np.zeros((3, 256), np.int64), {}

    def inputs() -> Iterator[np.ndarray]:
        with Progress("looking at all pictures once, for their mean and whether they can be read", total, "pictures") as bar:
            for number, (x, wrong) in enumerate(blocks(stream.pictures, Listed(stream.numbers), stream.workers)):
                first = number * PLACES_IN_A_BLOCK
                bar.update(first)
                bad.update({int(stream.numbers[first + place]): reason for place, reason in wrong.items()})
                np.add(found, counts(x[: max(training - first, 0)], per_channel=True), out=found)
                yield x

    digest = dataset.hash_of(inputs())
    return Survey(found, np.array(digest)), bad


def stand_in(pictures: Pictures, examples: int) -> np.ndarray:
    """Returns zeros in the shape of so many pictures, which take no memory."""
    return np.broadcast_to(np.zeros((), np.uint8), (examples, *pictures.shape))
