"""Examples read from the disk in the order in which they are asked for, by Grain: threads of this process, or processes."""

import dataclasses
import os
from collections.abc import Generator
from typing import Any, Protocol

import numpy as np
from absl import flags

from hpjax.data.decode import SMALL
from hpjax.data.host_order import HostOrder
from hpjax.data.pictures import Pictures
from hpjax.errors import DataError

BLOCK_BYTES = 4_000_000
"""Examples of a block, which a worker decodes and hands over as one, come to at most so many bytes."""

PLACES_IN_A_BLOCK = 64
"""Examples of a block where nothing else says how many."""

MANY_CORES, CORES_A_WORKER = 8, 4
"""From so many cores on there are processes by default, one for every four. On two cores they were no gain."""

_AHEAD = 2
"""Finished blocks that wait, in each process for each of its threads."""


class Order(Protocol):
    """Which pictures are read, block after block."""

    def __len__(self) -> int:
        """Returns the number of blocks."""

    def block(self, number: int) -> np.ndarray:
        """Returns the numbers of a block's pictures."""


@dataclasses.dataclass(frozen=True, eq=False)
class Listed:
    """Given pictures, one after the other."""

    pictures: np.ndarray

    def __len__(self) -> int:
        return (len(self.pictures) + PLACES_IN_A_BLOCK - 1) // PLACES_IN_A_BLOCK

    def block(self, number: int) -> np.ndarray:
        """Returns the numbers of a block's pictures."""
        return self.pictures[number * PLACES_IN_A_BLOCK : (number + 1) * PLACES_IN_A_BLOCK]


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A process's part of every micro-batch of a run, tick after tick, in the order of the run.

    Attributes:
      numbers: pictures by training example.
      order: of the stream.
      partners: the stream of what mixup mixes in; None without. A block then holds its own examples and then those.
      micro_batch_size: examples a tick, over all processes.
      first: this process's first example in a micro-batch.
      share: its examples in each.
      begin: the first tick.
      end: the tick after the last.
      places: examples of a block, a divisor of `share`.
    """

    numbers: np.ndarray
    order: HostOrder
    partners: HostOrder | None
    micro_batch_size: int
    first: int
    share: int
    begin: int
    end: int
    places: int

    def __len__(self) -> int:
        return (self.end - self.begin) * (self.share // self.places)

    def block(self, number: int) -> np.ndarray:
        """Returns the numbers of a block's pictures."""
        return self.numbers[self.examples(number)]

    def examples(self, number: int) -> np.ndarray:
        """Returns which examples a block holds."""
        tick, part = divmod(number, self.share // self.places)
        begin = (self.begin + tick) * self.micro_batch_size + self.first + part * self.places
        places = (begin + np.arange(self.places, dtype=np.int64)) % 2**32
        streams = [self.order] if self.partners is None else [self.order, self.partners]
        return np.concatenate([stream.index(places) for stream in streams])


class _Source:
    """What Grain reads: a block by its number, as (pictures, places of what is bad, reasons)."""

    def __init__(self, pictures: Pictures, order: Order):
        self._pictures, self._order = pictures, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, bad = self._pictures.decoded(self._order.block(int(number)))
        return x, np.array(list(bad), np.int64), np.array(list(bad.values()), np.str_)


def places_in_a_block(share: int, bytes_of_one: int) -> int:
    """Returns the examples of a block: the largest divisor of a share that is not larger than a block may be."""
    most = max(1, BLOCK_BYTES // bytes_of_one)
    return max(places for places in range(1, min(share, most) + 1) if share % places == 0)


def blocks(pictures: Pictures, order: Order, workers: int | None) -> Generator[tuple[np.ndarray, dict[int, str]]]:
    """Yields the blocks of an order, decoded: pictures, and by place why there is none.

    Args:
      pictures: where they lie.
      order: which of them.
      workers: processes that decode; 0 has threads of this process do it, None chooses by the number of cores. More than
        there are blocks are not started.

    Raises:
      DataError: a picture is of another size than the others.
    """
    # It takes a second to import, and most runs need none of it.
    import grain

    if not len(order):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers is None:
        workers = cores // CORES_A_WORKER if cores >= MANY_CORES else 0
    workers = min(workers, len(order))
    # Of small pictures most of the work is Python's own, which two threads do no faster than one.
    threads = 1 if pictures.mean_bytes < SMALL else min(CORES_A_WORKER if workers else cores, 16)
    if not flags.FLAGS.is_parsed():
        # Grain asks absl's own flags, of which hpjax parses none.
        flags.FLAGS.mark_as_parsed()
    source: Any = _Source(pictures, order)
    found = grain.MapDataset.source(source).to_iter_dataset(grain.ReadOptions(threads, _AHEAD * threads))
    if workers:
        options = grain.MultiprocessingOptions(workers, _AHEAD)
        found = found.mp_prefetch(options)
    iterator: Any = iter(found)
    try:
        for x, places, reasons in iterator:
            yield np.asarray(x), dict(zip(places.tolist(), reasons.tolist(), strict=True))
    finally:
        iterator.close()


def sound(x: np.ndarray, bad: dict[int, str], pictures: Pictures, numbers: np.ndarray) -> np.ndarray:
    """Returns a block's pictures; raises DataError where one cannot be read."""
    for place, reason in bad.items():
        raise DataError(f"picture '{pictures.name(numbers[place])}' in '{pictures.root}' cannot be read any more: {reason}")
    return x
