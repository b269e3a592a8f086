"""The engine of a study: rounds on the device, and on the host, one round behind, what became of the trials.

What is decided from round n takes effect at the beginning of round n + 2, always: the device never waits for the host, and
the same study makes the same decisions however fast the machine is.
"""

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from hpjax import evaluation, metrics
from hpjax.data import Dataset
from hpjax.interrupt import Interrupt
from hpjax.objective import Evaluation, Objective
from hpjax.stopping import EarlyStopping
from hpjax.study.ask import Asker
from hpjax.study.group import Group, Issued, Seen, Slot
from hpjax.study.kept import Kept, Results, like_kept
from hpjax.study.plan import Plan, Planner
from hpjax.study.records import ENDED, Measured, Status, TrialRecord
from hpjax.study.samplers import Seen as Sample
from hpjax.study.schedulers import Decision, Scheduler
from hpjax.study.units import Units
from hpjax.trial import RUNNING, TrialState

SECONDS_A_SLICE = 1.0
"""How often the host looks, at least: for the screen and for signals."""


class Outcome(NamedTuple):
    """What became of a lane's trial in a round, plain values.

    Attributes:
      number: the trial's.
      evaluation: the number of its evaluation.
      tick: where it was to come to.
      ticks: ticks of the round.
      made: those of them that it made before it diverged.
      diverged_at: the tick whose loss was not finite, or None.
      numbers: loss and metrics by name.
      lane: the lane.
    """

    number: int
    evaluation: int
    tick: int
    ticks: int
    made: int
    diverged_at: int | None
    numbers: dict[str, float]
    lane: int


@dataclasses.dataclass
class Counts:
    """Lane-ticks of a study so far.

    Attributes:
      busy: ticks that trials made.
      late: of those, ticks after a decision that they should have stopped.
      all: ticks that the lanes had time for.
      steps: optimizer steps that trials made.
      rounds: rounds that were looked at.
    """

    busy: int = 0
    late: int = 0
    all: int = 0
    steps: int = 0
    rounds: int = 0

    @property
    def occupancy(self) -> float:
        """The share of the lanes' time in which they made ticks of trials."""
        return self.busy / self.all if self.all else math.nan


class _Pending(NamedTuple):
    """What was issued and not looked at yet; `outcomes` where it was read for a checkpoint; what the lanes came to."""

    group: Group
    issued: Issued | None
    outcomes: tuple[Outcome, ...] | None = None
    results: Results | None = None


class Engine:
    """Runs a study's trials.

    Attributes:
      records: what is known of every trial, by number.
      counts: lane-ticks so far.
      statuses: how many trials are where.
      kept: the parameters of the best trials.
    """

    def __init__(
        self,
        dataset: Dataset,
        planner: Planner,
        asker: Asker,
        scheduler: Scheduler,
        objective: Objective,
        aggregate: str,
        make_group: Callable[[int, Plan], list[Group]],
        keep_best: int = 1,
    ):
        """Makes an engine that has begun nothing.

        Args:
          dataset: the data, for its splits.
          planner: makes plans of values.
          asker: gives new settings.
          scheduler: decides what goes on.
          objective: what is to be best.
          aggregate: mean or median over a setting's trials.
          make_group: makes the lanes of a trial's compile group, by number and plan; they take turns and share a queue.
          keep_best: trials whose parameters are kept.
        """
        self.records: list[TrialRecord] = []
        self.counts = Counts()
        self.kept = Kept(keep_best, objective)
        self._dataset, self._planner, self._asker, self._scheduler = dataset, planner, asker, scheduler
        self._objective, self._make_group = objective, make_group
        self._units = Units(scheduler, objective, aggregate, self.records)
        self._groups: list[Group] = []
        self._turn = 0
        self._plans: dict[int, Plan] = {}
        self._parked: dict[int, TrialState] = {}
        self._pending: _Pending | None = None
        self._rate = 0.0
        self._clock = self._zero = time.monotonic()
        self._changed: list[TrialRecord] = []
        self.statuses: Counter[str] = Counter()

    def run(self, interrupt: Interrupt) -> Iterator[list[TrialRecord]]:
        """Runs until all trials have ended, or a signal comes.

        Yields:
          After each look: the trials that were begun, evaluated or ended since the last.
        """
        self._clock = time.monotonic()
        while interrupt.signal is None:
            issued = self._issue()
            if issued is None and self._pending is None:
                self._close()
                yield self._taken()
                return
            if self._pending is not None:
                self._apply(self._pending)
            self._pending = issued
            yield self._taken()

    def group(self, number: int) -> Group:
        """Returns the compile group of a trial."""
        return self._group_of(number, self.plan(number))

    def facts(self) -> dict[str, Any]:
        """Returns what the screen shows; costs the same however large the study is."""
        return {
            "counts": dict(self.statuses),
            "steps": self.counts.steps,
            "occupancy": self.counts.occupancy,
            "best": self.best,
        }

    @property
    def best(self) -> tuple[int, float] | None:
        """The best setting of those that have ended, and its value over its trials; None before there is one."""
        return self._units.best

    @property
    def seen(self) -> Sequence[Sample]:
        """The newest settings that have ended, as samplers are told them."""
        return self._units.seen

    def plan(self, number: int) -> Plan:
        """Returns how a trial runs, or has run."""
        return self._planner.plan(self.records[number].values)

    @property
    def now(self) -> float:
        """Seconds since the study began."""
        return time.monotonic() - self._zero

    # What the device does next.

    def _issue(self) -> _Pending | None:
        """Asks the device for the next slice; None if no trial has ticks left, for now."""
        for _ in range(len(self._groups) + 1):
            if not self._groups:
                # What is known from before, another study's results or this one's own, is known to the first setting, too.
                self._asker.look(1, self._units.seen)
                if not self._more_work(None):
                    return None
            group = self._groups[self._turn % len(self._groups)]
            if not group.in_round:
                self._fill(group)
            if group.busy:
                most = max(1, int(self._rate * SECONDS_A_SLICE)) if self._rate else 64
                issued = group.issue(most, self._pauses)
                if not group.in_round:
                    self._turn += 1
                return _Pending(group, issued, None, None if issued.results is None else Results(issued.results))
            self._turn += 1
        return None

    def _pauses(self, number: int, evaluation: int) -> bool:
        """Returns whether a trial waits after an evaluation, whatever that shows."""
        return self._scheduler.pauses_at(self.records[number].setting, evaluation)

    def _fill(self, group: Group) -> None:
        """Gives every free lane of a group a trial, as far as there are any."""
        free = len(group.free())
        if free > len(group.queue):
            self._asker.look(-(-free // len(self._asker.replicas)), self._units.seen)
        while len(group.queue) < free and self._more_work(group):
            pass
        for number in group.fill():
            record = self.records[number]
            self._set(record, "running")
            record.began = self.now if math.isnan(record.began) else record.began
            self._changed.append(record)

    def _more_work(self, group: Group | None) -> bool:
        """Queues the trials of one more setting; returns whether there was one to queue."""
        # Another group's queue is not filled without end while this one looks for its own trials.
        queues = {other.key: len(other.queue) for other in self._groups if group is None or other.key != group.key}
        elsewhere = sum(queues.values())
        if group is not None and elsewhere > 2 * len(group.slots) * len(self._groups):
            return False
        resumed = self._scheduler.resume()
        if resumed is not None:
            for number in self._units.numbers(resumed):
                if self.records[number].status == "paused":
                    plan = self._plan(self.records[number])
                    waiting = (number, plan, self._parked.pop(number), len(self.records[number].curve))
                    self._group_of(number, plan).queue.append(waiting)
                    self._set(self.records[number], "waiting")
            return True
        if not self._scheduler.may_begin():
            return False
        new = self._asker.next(len(self.records))
        if not new:
            self._scheduler.no_more()
            return False
        self._scheduler.begin(new[0].setting)
        self.records.extend(new)
        self.statuses["waiting"] += len(new)
        self._units.add(new[0].setting, [record.number for record in new])
        self._changed.extend(new)
        for record in new:
            plan = self._plan(record)
            self._group_of(record.number, plan).queue.append((record.number, plan, None, 0))
        return True

    def _plan(self, record: TrialRecord) -> Plan:
        if record.number not in self._plans:
            self._plans[record.number] = self._planner.plan(record.values)
        return self._plans[record.number]

    def _group_of(self, number: int, plan: Plan) -> Group:
        for group in self._groups:
            if group.key == plan.group:
                return group
        waves = self._make_group(number, plan)
        self._groups.extend(waves)
        return waves[0]

    # What became of it.

    def _apply(self, pending: _Pending) -> None:
        """Waits for what was issued, and takes note of it."""
        outcomes = self._read(pending) if pending.outcomes is None else pending.outcomes
        if pending.issued is not None:
            now = time.monotonic()
            if pending.issued.ticks:
                self._rate = pending.issued.ticks / max(now - self._clock, 1e-9)
            self._clock = now
        if not outcomes:
            return
        self.counts.rounds += 1
        self.counts.all += max(outcome.ticks for outcome in outcomes) * len(pending.group.slots)
        for outcome in outcomes:
            self._took(outcome, pending.results)
        for unit in self._scheduler.dropped():
            self._stop(self._units.numbers(unit))

    def _read(self, pending: _Pending) -> tuple[Outcome, ...]:
        """Returns what a round came to; waits for the device."""
        issued = pending.issued
        assert issued is not None
        report = {name: np.asarray(value) for name, value in jax.device_get(issued.report).items()}
        if not issued.seen:
            return ()
        measured = None if issued.measured is None else jax.device_get(issued.measured)
        if issued.parked:
            parked = {n: state for n, state in issued.parked.items() if self.records[n].status not in ENDED}
            self._parked.update(jax.device_get(parked))
        return tuple(self._outcome(pending.group, seen, report, measured) for seen in issued.seen)

    def _outcome(
        self, group: Group, seen: Seen, report: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray] | None
    ) -> Outcome:
        scale = self._dataset.target_scale
        of_lane = {name: value[seen.lane] for name, value in report.items()}
        numbers = {
            f"train/{name}": float(of_lane[name] if name == "loss" else metrics.finish(name, of_lane[name], scale))
            for name in group.program.trial.logged
        }
        if measured is not None:
            val = {name: value[seen.lane] for name, value in measured.items()}
            finished, _ = evaluation.finish(val, self._dataset.splits["val"][1], scale)
            numbers |= {f"val/{name}": value for name, value in finished.items()}
        diverged = int(of_lane["tick"]) if of_lane["diverged_at"] != RUNNING else None
        made = max(int(of_lane["tick"]) - (seen.tick - seen.ticks), 0)
        return Outcome(seen.number, seen.evaluation, seen.tick, seen.ticks, made, diverged, numbers, seen.lane)

    def _took(self, outcome: Outcome, results: Results | None) -> None:
        """Takes note of one trial's round."""
        record = self.records[outcome.number]
        self.counts.busy += outcome.made
        if record.status in ENDED:
            self.counts.late += outcome.made
            return
        plan = self._plan(record)
        self.counts.steps += outcome.made // plan.accumulation
        self._changed.append(record)
        if outcome.diverged_at is not None:
            record.diverged_at = outcome.diverged_at // plan.accumulation
            self._end(record, "diverged")
            return
        # The accuracy of NaN logits is that of the first class: it would pass for a value.
        sound = math.isfinite(outcome.numbers.get("val/loss", 0.0))
        value = outcome.numbers[self._objective.name] if sound else math.nan
        record.curve.append(Measured(outcome.tick, outcome.tick // plan.accumulation, value, outcome.numbers))
        seen = [Evaluation(measured.tick, measured.value) for measured in record.curve]
        record.objective = self._objective.of_run(seen)
        ends = outcome.tick >= plan.end or self._early_stopping(plan).stops_at(self._objective, seen) is not None
        self.kept.evaluated(record, seen, ends, results, outcome.lane)
        if ends:
            self._end(record, "done")
            return
        if self._pauses(record.number, outcome.evaluation):
            self._set(record, "paused")
        if self._units.evaluated(record.number) is Decision.STOP:
            self._stop(self._units.numbers(record.setting))

    def _early_stopping(self, plan: Plan) -> EarlyStopping:
        config = plan.config
        return EarlyStopping(
            config.early_stopping_patience,
            config.early_stopping_min_delta,
            plan.lengths.early_stopping_min_steps * plan.accumulation,
        )

    def _stop(self, numbers: Sequence[int]) -> None:
        """Stops trials, as the scheduler has decided."""
        for number in numbers:
            record = self.records[number]
            if record.status not in ENDED:
                self._changed.append(record)
                self._end(record, "stopped")

    def _end(self, record: TrialRecord, status: Status) -> None:
        self._set(record, status)
        record.ended = self.now
        self.kept.ended(record)
        plan = self._plans.pop(record.number)
        for group in self._groups:
            if group.key == plan.group:
                group.remove(record.number)
        self._parked.pop(record.number, None)
        if self._units.ended(record.number) is Decision.STOP:
            self._stop(self._units.numbers(record.setting))

    def _set(self, record: TrialRecord, status: Status) -> None:
        self.statuses[record.status] -= 1
        self.statuses[status] += 1
        record.status = status

    def _close(self) -> None:
        """Ends what is paused for ever."""
        for unit in self._scheduler.close():
            self._stop(self._units.numbers(unit))

    def _taken(self) -> list[TrialRecord]:
        changed, self._changed = self._changed, []
        return list({record.number: record for record in changed}.values())

    # The whole of it, to go on from later.

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns all that the engine needs to go on exactly so; waits for the device.

        Returns:
          A pytree of NumPy arrays (the lanes' states and those that wait), and JSON values. The records are not in it.
        """
        if self._pending is not None and self._pending.outcomes is None:
            self._pending = self._pending._replace(issued=None, outcomes=self._read(self._pending))
        pending = self._pending and [self._groups.index(self._pending.group), self._pending.outcomes]
        tree: dict[str, Any] = {"lanes": {str(i): jax.device_get(group.states) for i, group in enumerate(self._groups)}}
        waiting = {n: state for group in self._groups for n, _, state, _ in group.queue if state is not None}
        if parked := {str(number): state for number, state in {**self._parked, **waiting}.items()}:
            tree["parked"] = parked
        if kept := self.kept.tree():
            tree["kept"] = kept
        if results := self._pending and self._pending.results:
            tree["results"] = results.whole()
        facts = {"groups": [group.facts() for group in self._groups], "pending": pending, "results": results is not None}
        return tree, {**self._known(), **facts, "kept": self.kept.facts()}

    def at_end(self) -> dict[str, Any]:
        """Returns what the engine needs to go on with further trials, after the last has ended: JSON values."""
        return {**self._known(), "turn": 0, "groups": [], "pending": None, "results": False, "kept": []}

    def _known(self) -> dict[str, Any]:
        return {
            "now": self.now,
            "turn": self._turn,
            "counts": dataclasses.asdict(self.counts),
            "scheduler": self._scheduler.state(),
            "reported": list(self._units.reported().items()),
            "seen": [list(seen) for seen in self._units.seen],
            "status": {record.number: record.status for record in self.records if record.status not in ENDED},
            "parked": sorted(self._parked),
        }

    def like(self, facts: Mapping[str, Any], records: Sequence[TrialRecord]) -> dict[str, Any]:
        """Takes up a snapshot's records and groups; returns zeros in the structure of its pytree."""
        self.records.extend(records)
        for number, status in facts["status"].items():
            self.records[int(number)].status = status
        for record in self.records:
            if record.curve and record.status not in ENDED:
                record.objective = self._objective.of_run([Evaluation(m.tick, m.value) for m in record.curve])
        self.statuses.update(record.status for record in self.records)
        for group in facts["groups"]:
            self._group_of(group["first"], self.plan(group["first"]))
        tree: dict[str, Any] = {
            "lanes": {str(i): group.like(len(group.slots)) for i, group in enumerate(self._groups)},
        }
        waiting = [number for group in facts["groups"] for number, _, parked in group["queue"] if parked]
        numbers = [*facts["parked"], *waiting]
        if numbers:
            tree["parked"] = {str(n): self._group_of(n, self._plan(self.records[n])).like() for n in numbers}
        if kept := like_kept(facts["kept"]):
            tree["kept"] = kept
        if facts["results"]:
            group = self._groups[facts["pending"][0]]
            tree["results"] = group.result_like(len(group.slots))
        return tree

    def restore(self, tree: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Takes up a snapshot, after `like`."""
        self._zero = time.monotonic() - facts["now"]
        self._turn = facts["turn"]
        self.counts = Counts(**facts["counts"])
        self._scheduler.load(facts["scheduler"])
        self._units.seen.extend(Sample(tuple(point), score) for point, score in facts["seen"])
        of_setting: dict[int, list[int]] = {}
        for record in self.records:
            of_setting.setdefault(record.setting, []).append(record.number)
        for setting, reported in facts["reported"]:
            self._units.add(setting, of_setting[setting], reported)
        parked = {int(number): state for number, state in tree.get("parked", {}).items()}
        self._parked = {number: parked[number] for number in facts["parked"]}
        for i, (group, of_group) in enumerate(zip(self._groups, facts["groups"], strict=True)):
            slots = [
                None if slot is None else Slot(slot[0], self._plan(self.records[slot[0]]), *slot[1:])
                for slot in of_group["slots"]
            ]
            group.restore(tree["lanes"][str(i)], slots, lambda number: self.records[number].status in ENDED)
            for number, done, _ in of_group["queue"]:
                group.queue.append((number, self._plan(self.records[number]), parked.get(number), done))
        self.kept.load(tree.get("kept", {}), facts["kept"], self.records)
        if facts["pending"] is not None:
            group, outcomes = facts["pending"]
            results = Results(tree["results"]) if facts["results"] else None
            self._pending = _Pending(self._groups[group], None, tuple(Outcome(*outcome) for outcome in outcomes), results)
