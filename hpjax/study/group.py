"""The lanes of a compile group: its lane program, and the trials in them.

A round takes every lane to its trial's next evaluation; lanes of different batch sizes need different numbers of ticks for
it. A long round is issued in slices, so that the host sees how it goes; where it is cut changes no number.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from hpjax import build, packing, scheduling
from hpjax.batch import Examples
from hpjax.lanes import LaneProgram
from hpjax.state import TrialState
from hpjax.study.plan import Plan

Waiting = tuple[int, Plan, np.ndarray | None, int]
"""A trial that waits for a lane: number, plan, and of one that paused its state (`LaneProgram.park`) and evaluations."""


@dataclasses.dataclass
class Slot:
    """A trial in a lane.

    Attributes:
      number: the trial's.
      plan: how it runs.
      done: evaluations that the device has been asked for.
      tick: ticks that it has been asked for.
    """

    number: int
    plan: Plan
    done: int = 0
    tick: int = 0

    @property
    def left(self) -> int:
        """Ticks to the next evaluation."""
        return self.plan.tick_of(self.done + 1) - self.tick


class Seen(NamedTuple):
    """Where a lane's trial is at a round's end: lane, trial, evaluation number, tick, ticks of the round, and its fold."""

    lane: int
    number: int
    evaluation: int
    tick: int
    ticks: int
    fold: int


class Issued(NamedTuple):
    """What the device was asked for: arrays that may still be computed.

    Attributes:
      report: of every lane, see `Trial.report`.
      ticks: ticks of the lane that has the most to do.
      seen: trials that come to an evaluation; empty for a slice in the middle of a round.
      measured: what is measured there over the validation split, or None.
      parked: lanes of the trials that are paused there, by number.
      rows: the states of all lanes there (`LaneProgram.park`), if any is paused.
      results: `Trial.result` of every lane there, or None.
    """

    report: dict[str, jax.Array]
    ticks: int
    seen: tuple[Seen, ...] = ()
    measured: dict[str, jax.Array] | None = None
    parked: Mapping[int, int] = MappingProxyType({})
    rows: jax.Array | None = None
    results: dict[str, Any] | None = None


class Group:
    """A lane program with its lanes.

    Attributes:
      key: `Plan.group` of its trials.
      first: the number of one of them.
      program: the program.
      slots: the trial of each lane, or None.
      queue: trials that wait for a lane.
    """

    def __init__(
        self,
        program: LaneProgram,
        examples: Examples,
        number: int,
        first: Plan,
        validation: Callable[[int], tuple[int, int]],
        shares: "Group | None" = None,
    ):
        """Makes the lanes, empty.

        Args:
          program: the lane program.
          examples: the data set, on the devices.
          number: of a trial of the group.
          first: its plan.
          validation: for a fold, or 0, start and size of the split that is measured.
          shares: other lanes of the same program, whose queue is these lanes' too.
        """
        self.key, self.first = first.group, number
        self.program = program
        self.slots: list[Slot | None] = [None] * program.layout.lanes
        self.queue: deque[Waiting] = deque() if shares is None else shares.queue
        self._leads = shares is None
        # Lanes that read one batch for all begin together: one that came later would make the others wait for it.
        self._together = program.layout.width if program.trial.share_batches else 1
        self._examples, self._validation = examples, validation
        self._scalars: list[dict[str, Any]] = [first.scalars] * program.layout.lanes
        self._like = build.like(program.trial, first.scalars, examples)
        self.states = self._zeros()
        self._values = program.put_values(self._scalars)
        self._round = 0
        self._leaving: set[int] = set()

    def compile(self) -> None:
        """Compiles what a round needs, at the same time: calls that change nothing, each in a thread.

        Where devices share a batch, or processes the lanes, one after the other: devices that began the calls' reductions in
        different orders would wait for each other for ever.
        """
        empty = np.zeros(len(self.slots), np.int32)
        calls: list[Callable[[], Any]] = [
            lambda: self.program.chunk(self._zeros(), self._values, self._examples, empty),
            lambda: self.program.refill(self._zeros(), self._values, self._examples, empty > 0),
            lambda: self.program.results(self._zeros()),
        ]
        if self._validation(0)[1] > 0:
            calls.append(self.evaluate)
        at_once = self.program.layout.data_devices == 1 and not self.program.spans
        with ThreadPoolExecutor(len(calls) if at_once else 1) as threads:
            for called in [threads.submit(call) for call in calls]:
                jax.block_until_ready(called.result())

    @property
    def busy(self) -> bool:
        """Whether a lane has a trial."""
        return any(slot is not None for slot in self.slots)

    @property
    def in_round(self) -> bool:
        """Whether a round is under way: its next slice comes before anything else of this group."""
        return self._round > 0

    def free(self) -> list[int]:
        """Returns the lanes that may take a trial, those of different devices in turn."""
        layout = self.program.layout
        of_device = layout.lanes // layout.lane_devices
        order = [device * of_device + i for i in range(of_device) for device in range(layout.lane_devices)]
        taken = {lane // self._together for lane, slot in enumerate(self.slots) if slot is not None}
        return [lane for lane in order if lane // self._together not in taken]

    def fill(self) -> list[int]:
        """Puts waiting trials into free lanes; returns their numbers."""
        new, back = np.zeros(len(self.slots), bool), np.zeros(len(self.slots), bool)
        rows: dict[int, np.ndarray] = {}
        began = []
        for lane in self.free():
            others = [slot.tick for slot in self._neighbours(lane) if slot is not None]
            waiting = next((one for one in self.queue if not others or others[0] == _tick(one)), None)
            if waiting is None:
                continue
            self.queue.remove(waiting)
            number, plan, state, done = waiting
            self.slots[lane] = Slot(number, plan, done, _tick(waiting))
            self._scalars[lane] = plan.scalars
            began.append(number)
            if state is None:
                new[lane] = True
            else:
                back[lane], rows[lane] = True, state
        if began:
            self._values = self.program.put_values(self._scalars)
        if new.any():
            self.states = self.program.refill(self.states, self._values, self._examples, new)
        if rows:
            some = next(iter(rows.values()))
            stacked = np.stack([rows.get(lane, some) for lane in range(len(self.slots))])
            self.states = self.program.unpark(self.states, stacked, back)
        return began

    def _neighbours(self, lane: int) -> list[Slot | None]:
        first = lane - lane % self._together
        return self.slots[first : first + self._together]

    def issue(self, most: int, pauses: Callable[[int, int], bool]) -> Issued:
        """Asks the device for the next slice of the round.

        Args:
          most: ticks of the slice, at most.
          pauses: whether a trial, by number, waits after an evaluation; it leaves its lane then.
        """
        left = [0 if slot is None else slot.left for slot in self.slots]
        ticks = np.minimum(left, most).astype(np.int32)
        longest = int(ticks.max())
        self._round += longest
        self.states, report = self.program.chunk(self.states, self._values, self._examples, ticks)
        for slot, of_lane in zip(self.slots, ticks.tolist(), strict=True):
            if slot is not None:
                slot.tick += of_lane
        if max(left) > most:
            return Issued(report, longest)
        return self._evaluated(report, longest, pauses)

    def _evaluated(self, report: dict[str, jax.Array], ticks: int, pauses: Callable[[int, int], bool]) -> Issued:
        """Ends a round: asks for the measures, and frees the lanes whose trials end or pause here."""
        measured: dict[str, jax.Array] | None = None
        parked: dict[int, int] = {}
        if self._validation(0)[1] > 0:
            measured = self.evaluate()
            if any(slot is not None and scheduling.observes(slot.plan.config) for slot in self.slots):
                self.states = self.program.observe(self.states, self._values, measured)
        results = self.program.results(self.states)
        seen = []
        for lane, slot in enumerate(self.slots):
            if slot is None:
                continue
            before = slot.plan.tick_of(slot.done) if slot.done else 0
            slot.done += 1
            seen.append(Seen(lane, slot.number, slot.done, slot.tick, slot.tick - before, slot.plan.config.fold))
            if slot.tick >= slot.plan.end:
                self.slots[lane] = None
            elif pauses(slot.number, slot.done):
                parked[slot.number] = lane
                self.slots[lane] = None
            elif slot.number in self._leaving:
                self.slots[lane] = None
        self._round = 0
        self._leaving.clear()
        rows = self.program.park(self.states) if parked else None
        return Issued(report, ticks, tuple(seen), measured, parked, rows, results)

    def alone(self, number: int, plan: Plan) -> int:
        """Empties all lanes and puts one new trial into the first; returns that lane."""
        self.slots = [None] * len(self.slots)
        self.queue.clear()
        self.queue.append((number, plan, None, 0))
        self._round = 0
        self._leaving.clear()
        self.fill()
        return next(lane for lane, slot in enumerate(self.slots) if slot is not None)

    def evaluate(self, split: tuple[int, int] | None = None) -> dict[str, jax.Array]:
        """Returns what every lane measures over a split, or over what its fold holds out: arrays [lanes, ...] by name."""
        own = [self._validation(0 if slot is None else slot.plan.config.fold) for slot in self.slots]
        starts, sizes = np.array([split] * len(own) if split else own, np.int32).T
        return self.program.evaluate(self.states, self._examples, starts, sizes)

    def measure(self, results: Sequence[Any], split: tuple[int, int]) -> list[dict[str, np.ndarray]]:
        """Returns what kept results (`Trial.result`, NumPy) measure over a split, as many at once as there are lanes."""
        lanes, found = len(self.slots), []
        for first in range(0, len(results), lanes):
            some = list(results[first : first + lanes])
            some += [some[-1]] * (lanes - len(some))
            stacked = jax.tree.map(lambda *of_lanes: np.stack(of_lanes), *some)
            measured = jax.device_get(self.program.measure(stacked, self._examples, *split))
            found += [{name: value[lane] for name, value in measured.items()} for lane in range(lanes)]
        return found[: len(results)]

    def remove(self, number: int) -> None:
        """Takes a trial out of its lane, or out of the queue; in the middle of a round it leaves at the round's end.

        A round that was not cut is beyond recall: in one that was cut, the same ticks are made.
        """
        if self.in_round:
            self._leaving |= {slot.number for slot in self.slots if slot is not None and slot.number == number}
        else:
            self.slots = [None if slot is not None and slot.number == number else slot for slot in self.slots]
        for waiting in [waiting for waiting in self.queue if waiting[0] == number]:
            self.queue.remove(waiting)

    def facts(self) -> dict[str, Any]:
        """Returns which trials are in the lanes and in the queue, as values that JSON can hold."""
        return {
            "first": self.first,
            "slots": [None if slot is None else [slot.number, slot.done, slot.tick] for slot in self.slots],
            "queue": [[number, done, state is not None] for number, _, state, done in self.queue] if self._leads else [],
        }

    def _zeros(self) -> TrialState:
        return self.program.put_states(self.like(len(self.slots)))

    def like_parked(self, trials: int) -> np.ndarray:
        """Returns zeros in the shape of the states of so many paused trials."""
        return np.zeros((trials, packing.words(self._like)), np.uint32)

    def like(self, lanes: int) -> TrialState:
        """Returns NumPy zeros in the structure of all lanes' states."""
        return jax.tree.map(lambda leaf: np.zeros((lanes, *leaf.shape), leaf.dtype), self._like)

    def result_like(self, lanes: int | None = None) -> dict[str, Any]:
        """Returns NumPy zeros in the structure of what is kept of a trial, or of all lanes'."""
        return jax.tree.map(
            lambda leaf: np.zeros(leaf.shape if lanes is None else (lanes, *leaf.shape), leaf.dtype),
            jax.eval_shape(self.program.trial.result, self._like),
        )

    def restore(self, states: TrialState, slots: Sequence[Slot | None], ended: Callable[[int], bool]) -> None:
        """Takes up the lanes where a checkpoint left them; `ended` tells of a trial's number whether it has ended."""
        self.states = self.program.put_states(states)
        self.slots = list(slots)
        for lane, slot in enumerate(slots):
            if slot is not None:
                self._scalars[lane] = slot.plan.scalars
        self._values = self.program.put_values(self._scalars)
        self._round = int(any(slot is not None and slot.tick > _reached(slot) for slot in slots))
        self._leaving = {slot.number for slot in slots if slot is not None and ended(slot.number)}


def _tick(waiting: Waiting) -> int:
    """Returns the tick that a waiting trial goes on from."""
    _, plan, _, done = waiting
    return plan.tick_of(done) if done else 0


def _reached(slot: Slot) -> int:
    return slot.plan.tick_of(slot.done) if slot.done else 0
