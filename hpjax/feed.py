"""Streamed examples on their way to the devices: windows of some ticks, the next ones made while a run trains on one.

A window is laid out so that every device that shares a batch has its own part of each tick's micro-batch, one tick after the
other: no device and no process has more than it trains on. Held-out splits are laid out likewise and stay on the devices.
"""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np

from hpjax.batch import Examples
from hpjax.data import Dataset, memory
from hpjax.data.host_order import HostOrder
from hpjax.data.notes import Progress
from hpjax.data.streaming import PLACES_IN_A_BLOCK, Listed, Trained, blocks, places_in_a_block, sound
from hpjax.errors import ConfigError
from hpjax.lanes import LaneProgram

WINDOW_BYTES = 16_000_000
"""A window is at least a tick and at most so large, in each process. Up to four of them are there at a time."""

MOSTLY = 0.9
"""An input that works for a larger share of the time bounds the run."""

_LOOK = 0.1
"""Seconds after which a thread that waits looks whether it is still wanted."""


class Window(NamedTuple):
    """Examples for the ticks from `tick` to before `end`, on the devices."""

    examples: Examples
    tick: int
    end: int


class Rates(NamedTuple):
    """How input and training kept pace.

    Attributes:
      examples_per_second: what the input makes while it is not held up, over all processes.
      busy: share of the time in which it worked and was not held up by training: near 1 the input bounds the run.
    """

    examples_per_second: float
    busy: float

    @property
    def scalars(self) -> dict[str, float]:
        """What is logged, by name; without a rate where no window was finished."""
        rate = {"speed/input_examples_per_second": self.examples_per_second}
        return {"speed/input_busy": self.busy, **(rate if math.isfinite(self.examples_per_second) else {})}

    @property
    def verdict(self) -> str:
        """Says which of the two bounds the run."""
        which = "the input" if self.busy > MOSTLY else "the step"
        return (
            f"input: {self.examples_per_second:,.0f} pictures/s while it works, {self.busy:.0%} of the time: "
            f"{which} bounds the run"
        )


class _Done(NamedTuple):
    """What the thread has done: ticks made, and seconds for which it worked, at a time."""

    ticks: int
    working: float
    at: float


class HeldOut(NamedTuple):
    """Validation and test examples on the devices.

    Attributes:
      examples: both splits, laid out.
      starts: where each begins on a device, by split.
    """

    examples: Examples
    starts: dict[str, int]


class Feed:
    """Makes windows in a thread of its own.

    Attributes:
      ticks: of a window.
    """

    def __init__(self, dataset: Dataset, program: LaneProgram, data_seed: int, total_ticks: int):
        """Takes up nothing yet.

        Args:
          dataset: a streamed data set.
          program: the program that is fed.
          data_seed: of the order.
          total_ticks: ticks of the whole run.
        """
        assert dataset.stream is not None
        trial = program.trial
        self._dataset, self._stream, self._program = dataset, dataset.stream, program
        self._seed, self._end = data_seed, total_ticks
        self._micro, self._mixup = trial.micro_batch_size, trial.reader.mixup
        first, self._shards = program.shards()
        share = trial.micro_batch_size // trial.data_shards
        self._first_shard, self._first, self._share = first, first * share, self._shards * share
        one = math.prod(dataset.x.shape[1:]) * (2 if self._mixup else 1)
        self._places = places_in_a_block(self._share, one)
        self.ticks = min(max(1, WINDOW_BYTES // (self._share * one)), max(total_ticks, 1))
        self._queue: queue.Queue[Window | BaseException] = queue.Queue(1)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._window: Window | None = None
        self._done = _Done(0, 0.0, time.monotonic())
        self._first_done = self._last_done = self._done

    def placeholder(self) -> Examples:
        """Returns a window of zeros, on the devices."""
        return self._placed(*self._empty(), 0)

    def at(self, tick: int) -> Window:
        """Returns the window that a tick is in, waiting for it if need be. Ticks go on from that of the first call.

        Raises:
          DataError: a picture cannot be read any more.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._make, args=(tick,), name="hpjax-input", daemon=True)
            self._first_done = self._last_done = self._done._replace(at=time.monotonic())
            self._thread.start()
        while self._window is None or tick >= self._window.end:
            # Before the next one comes, so that no more are held than need be.
            self._window = None
            found = self._queue.get()
            if isinstance(found, BaseException):
                raise found
            self._window = found
        return self._window

    def described(self) -> str:
        """Returns the line that says what is streamed."""
        total = math.prod(self._dataset.x.shape) / 1e9
        return (
            f"input: {len(self._stream.numbers):,} pictures, {total:.3g} GB, streamed from '{self._stream.pictures.root}' "
            f"in windows of {self.ticks} ticks; the held-out splits stay in memory"
        )

    def rates(self) -> Rates:
        """Returns how input and training have kept pace since this was asked last."""
        before, self._last_done = self._last_done, self._done._replace(at=time.monotonic())
        return self._between(before, self._last_done)

    def rates_of_all(self) -> Rates:
        """Returns how input and training have kept pace since the first window was asked for."""
        return self._between(self._first_done, self._done._replace(at=time.monotonic()))

    def _between(self, before: "_Done", after: "_Done") -> Rates:
        ticks, working, passed = (b - a for a, b in zip(before, after, strict=True))
        # A window that took longer than the time asked for is counted where it ends.
        return Rates(ticks * self._micro / working if working > 0 else math.nan, min(working / max(passed, 1e-9), 1.0))

    def close(self) -> None:
        """Ends the thread, and the processes that decode."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _make(self, tick: int) -> None:
        """The thread: makes windows until the run's end."""
        try:
            with contextlib.closing(self._blocks(tick)) as source:
                for start in range(tick, self._end, self.ticks):
                    began = time.monotonic()
                    end = min(start + self.ticks, self._end)
                    window = Window(self._filled(source, start, end), start, end)
                    done = self._done
                    self._done = done._replace(
                        ticks=done.ticks + end - start, working=done.working + time.monotonic() - began
                    )
                    if not self._hand_over(window):
                        return
        except BaseException as error:
            self._hand_over(error)

    def _hand_over(self, found: Window | BaseException) -> bool:
        """Waits until what was made is taken; returns whether more is wanted."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(found, timeout=_LOOK)
                return True
        return False

    def _blocks(self, tick: int) -> Generator[tuple[np.ndarray, np.ndarray]]:
        """Yields blocks of pictures and of labels, from a tick on."""
        size = self._dataset.splits["train"][1]
        begin, end = tick * self._micro, self._end * self._micro
        order = HostOrder.create(size, self._seed, begin, end)
        partners = HostOrder.create(size, self._seed, begin, end, partners=True) if self._mixup else None
        numbers, y = self._stream.numbers[:size], self._dataset.y[:size]
        trained = Trained(numbers, order, partners, self._micro, self._first, self._share, tick, self._end, self._places)
        for block, (x, bad) in enumerate(blocks(self._stream.pictures, trained, self._stream.workers)):
            examples = trained.examples(block)
            yield sound(x, bad, self._stream.pictures, numbers[examples]), y[examples]

    def _empty(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns new arrays [examples mixed in or not, ticks, shards, examples of a shard, ...]: a window's."""
        shape = (1 + self._mixup, self.ticks, self._shards, self._share // self._shards)
        return np.zeros((*shape, *self._dataset.x.shape[1:]), np.uint8), np.zeros(shape, np.int32)

    def _filled(self, source: Iterator[tuple[np.ndarray, np.ndarray]], start: int, end: int) -> Examples:
        x, y = self._empty()
        flat = [array.reshape(1 + self._mixup, self.ticks * self._share, *array.shape[4:]) for array in (x, y)]
        for place in range(0, (end - start) * self._share, self._places):
            if self._stop.is_set():
                break  # Nobody takes this window.
            for array, block in zip(flat, next(source), strict=True):
                array[:, place : place + self._places] = block.reshape(1 + self._mixup, self._places, *block.shape[1:])
        return self._placed(x, y, start)

    def _placed(self, x: np.ndarray, y: np.ndarray, tick: int) -> Examples:
        """Puts a window's arrays on the devices, each shard's ticks one after the other, and then what is mixed in."""
        x, y = (np.moveaxis(a, 2, 0).reshape(self._shards, -1, *a.shape[4:]) for a in (x, y))
        return self._on_devices(x, y, tick)

    def _on_devices(self, x: np.ndarray, y: np.ndarray, tick: int) -> Examples:
        put = self._program.put_shards
        return Examples(put(x, self._first_shard), put(y, self._first_shard), tick=np.int32(tick))  # type: ignore[arg-type]

    def held_out(self) -> HeldOut:
        """Returns the validation and test splits, on the devices.

        Raises:
          ConfigError: they do not fit memory.
          DataError: a picture cannot be read any more.
        """
        trial, splits = self._program.trial, self._dataset.splits
        batch, shards = trial.eval_batch_size, trial.data_shards
        share = batch // shards
        here = self._first_shard + np.arange(self._shards)
        numbers, starts, rows = [], {}, 0
        for split in ("val", "test"):
            start, size = splits[split]
            starts[split] = rows
            place = np.arange(-(-size // batch))[None, :, None] * batch + here[:, None, None] * share + np.arange(share)
            numbers.append(start + np.minimum(place, max(size - 1, 0)).reshape(self._shards, -1))
            rows += numbers[-1].shape[1]
        examples = np.concatenate(numbers, axis=1)
        self._check_fits(examples.size)
        if not rows:
            # Zeros, of which nothing is counted.
            examples = np.zeros((self._shards, share), np.int64)
        x = np.zeros((*examples.shape, *self._dataset.x.shape[1:]), np.uint8)
        pictures, flat = self._stream.pictures, self._stream.numbers[examples if rows else examples[:, :0]].reshape(-1)
        into = x.reshape(-1, *x.shape[2:])
        with Progress("decoding the held-out pictures", len(flat), "pictures") as progress:
            for block, (found, bad) in enumerate(blocks(pictures, Listed(flat), self._stream.workers)):
                first = block * PLACES_IN_A_BLOCK
                into[first : first + len(found)] = sound(found, bad, pictures, flat[first:])
                progress.update(first)
        return HeldOut(self._on_devices(x, self._dataset.y[examples], 0), starts)

    def _check_fits(self, examples: int) -> None:
        """Refuses held-out splits that take more than half of the memory that is left, here or on the devices."""
        needed = examples * math.prod(self._dataset.x.shape[1:])
        device = self._program.mesh.local_devices[0].memory_stats() or {}
        of_devices = device.get("bytes_limit", 0) * self._shards or None
        for what, left in (("this machine has left", memory.available()), ("its devices have", of_devices)):
            if left is not None and 2 * needed > left:
                raise ConfigError(
                    f"the validation and test splits take {needed / 1e9:.3g} GB of memory; expected at most half of the "
                    f"{left / 1e9:.3g} GB that {what}: a smaller validation_fraction or image_size, or more processes"
                )
