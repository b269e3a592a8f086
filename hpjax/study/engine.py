"""The engine of a study: rounds on the device, and on the host, one round behind, what became of the trials.

What is decided from round n takes effect at the beginning of round n + 2, always: the device never waits for the host, and
the same study makes the same decisions however fast the machine is.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from hpjax.data import Dataset
from hpjax.interrupt import Interrupt
from hpjax.objective import Evaluation, Objective
from hpjax.processes.team import ALONE, Alone
from hpjax.stopping import EarlyStopping
from hpjax.study import outcomes
from hpjax.study.ask import Asker
from hpjax.study.group import Group
from hpjax.study.kept import Kept, Results
from hpjax.study.outcomes import Counts, Outcome, Pending
from hpjax.study.plan import Plan, Planner
from hpjax.study.records import ENDED, Measured, Status, TrialRecord
from hpjax.study.samplers import Seen as Sample
from hpjax.study.schedulers import Decision, Scheduler
from hpjax.study.units import Units

SECONDS_A_SLICE = 1.0
"""How often the host looks, at least: for the screen and for signals."""


class Engine:
    """Runs a study's trials. What is kept of it in a checkpoint, and comes back from there: `snapshot.py`.

    Attributes:
      records: what is known of every trial, by number.
      counts: lane-ticks so far.
      statuses: how many trials are where.
      kept: the parameters of the best trials.
      units: what is known of every setting.
      scheduler: decides what goes on.
      objective: what is to be best.
      groups: the lanes, those of a compile group one after the other.
      turn: whose turn of them it is, modulo their number.
      parked: states of paused trials (`LaneProgram.park`), by number.
      pending: what was issued last and not looked at yet.
      began: when the study began, by the monotonic clock.
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
        team: Alone = ALONE,
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
          team: the processes that run the study. What they decide follows from what all of them see, but for the length of a
            slice and signals, which are agreed.
        """
        self.records: list[TrialRecord] = []
        self.counts = Counts()
        self.kept = Kept(keep_best, objective)
        self._dataset, self._planner, self._asker = dataset, planner, asker
        self.scheduler, self.objective, self._make_group = scheduler, objective, make_group
        self._team = team
        self.units = Units(scheduler, objective, aggregate, self.records)
        self.groups: list[Group] = []
        self.turn = 0
        self._plans: dict[int, Plan] = {}
        self.parked: dict[int, np.ndarray] = {}
        self.pending: Pending | None = None
        self._rate = 0.0
        self._clock = self.began = time.monotonic()
        self._changed: list[TrialRecord] = []
        self.statuses: Counter[str] = Counter()

    def run(self, interrupt: Interrupt) -> Iterator[list[TrialRecord]]:
        """Runs until all trials have ended, or a signal comes.

        Yields:
          After each look: the trials that were begun, evaluated or ended since the last.
        """
        self._clock = time.monotonic()
        while True:
            most, stop = self._team.pace(self._slice(), interrupt.signal)
            if stop is not None:
                interrupt.signal = stop
                return
            issued = self._issue(most)
            if issued is None and self.pending is None:
                self._close()
                yield self._taken()
                return
            if self.pending is not None:
                self._apply(self.pending)
            self.pending = issued
            yield self._taken()

    def cut(self) -> list[TrialRecord]:
        """Ends the study here: what has not come to its end counts as stopped; returns the trials that this changed."""
        for unit in sorted({record.setting for record in self.records if record.status not in ENDED}):
            self._stop(self.units.numbers(unit))
        self.pending = None
        return self._taken()

    def group(self, number: int) -> Group:
        """Returns the first wave of a trial's compile group, which is made where there is none yet."""
        plan = self.plan(number)
        for group in self.groups:
            if group.key == plan.group:
                return group
        waves = self._make_group(number, plan)
        self.groups.extend(waves)
        return waves[0]

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
        return self.units.best

    @property
    def seen(self) -> Sequence[Sample]:
        """The newest settings that have ended, as samplers are told them."""
        return self.units.seen

    def plan(self, number: int) -> Plan:
        """Returns how a trial runs, or has run."""
        record = self.records[number]
        if number in self._plans:
            return self._plans[number]
        plan = self._planner.plan(record.values)
        if record.status not in ENDED:
            self._plans[number] = plan
        return plan

    @property
    def now(self) -> float:
        """Seconds since the study began."""
        return time.monotonic() - self.began

    # What the device does next.

    def _slice(self) -> int:
        """Returns the ticks after which the host looks again."""
        return max(1, int(self._rate * SECONDS_A_SLICE)) if self._rate else 64

    def _issue(self, most: int) -> Pending | None:
        """Asks the device for the next slice, of at most so many ticks; None if no trial has ticks left, for now."""
        for _ in range(len(self.groups) + 1):
            if not self.groups:
                # What is known from before, another study's results or this one's own, is known to the first setting, too.
                self._asker.look(1, self.units.seen)
                if not self._more_work(None):
                    return None
            group = self.groups[self.turn % len(self.groups)]
            if not group.in_round:
                self._fill(group)
            if group.busy:
                issued = group.issue(most, self._pauses)
                if not group.in_round:
                    self.turn += 1
                results = None if issued.results is None else Results(issued.results, group.program)
                return Pending(group, issued, (), results)
            self.turn += 1
        return None

    def _pauses(self, number: int, evaluation: int) -> bool:
        """Returns whether a trial waits after an evaluation, whatever that shows."""
        return self.scheduler.pauses_at(self.records[number].setting, evaluation)

    def _fill(self, group: Group) -> None:
        """Gives every free lane of a group a trial, as far as there are any."""
        free = len(group.free())
        if free > len(group.queue):
            self._asker.look(-(-free // len(self._asker.replicas)), self.units.seen)
        while len(group.queue) < free and self._more_work(group):
            pass
        for number in group.fill():
            record = self.records[number]
            self._set(record, "running")
            record.began = self.now if math.isnan(record.began) else record.began
            self._changed.append(record)

    def _more_work(self, group: Group | None) -> bool:
        """Queues the trials of one more setting; returns whether there was one to queue."""
        if group is not None and self._enough(group):
            return False
        resumed = self.scheduler.resume()
        if resumed is not None:
            for number in self.units.numbers(resumed):
                if self.records[number].status == "paused":
                    waiting = (number, self.plan(number), self.parked.pop(number), len(self.records[number].curve))
                    self.group(number).queue.append(waiting)
                    self._set(self.records[number], "waiting")
            return True
        if not self.scheduler.may_begin():
            return False
        new = self._asker.next(len(self.records))
        if not new:
            self.scheduler.no_more()
            return False
        self.scheduler.begin(new[0].setting)
        self.records.extend(new)
        self.statuses["waiting"] += len(new)
        self.units.add(new[0].setting, [record.number for record in new])
        self._changed.extend(new)
        for record in new:
            self.group(record.number).queue.append((record.number, self.plan(record.number), None, 0))
        return True

    def _enough(self, group: Group) -> bool:
        """Returns whether as much has begun as may, while a group still looks for trials of its own.

        What it finds meanwhile is other groups', and waits for them.
        """
        own = [other for other in self.groups if other.key == group.key]
        elsewhere = sum({other.key: len(other.queue) for other in self.groups if other.key != group.key}.values())
        if len(own) == 1:
            # Nobody decides: it means nothing how long a trial waits, and no lane need stand empty.
            return elsewhere > 2 * len(group.slots) * len(self.groups)
        lanes = sum(len(other.slots) for other in own)
        # A sampler that is asked for all settings before one has ended learns nothing.
        under_way = self.statuses["waiting"] + self.statuses["running"]
        return elsewhere >= lanes or (self._asker.learns and under_way >= 2 * lanes)

    # What became of it.

    def _apply(self, pending: Pending) -> None:
        """Waits for what was issued, and takes note of it."""
        became = self.read(pending)
        if pending.issued is not None:
            now = time.monotonic()
            if pending.issued.ticks:
                self._rate = pending.issued.ticks / max(now - self._clock, 1e-9)
            self._clock = now
        if not became:
            return
        self.counts.rounds += 1
        self.counts.all += max(outcome.ticks for outcome in became) * len(pending.group.slots)
        for outcome in became:
            self._took(outcome, pending.results)
        for unit in self.scheduler.dropped():
            self._stop(self.units.numbers(unit))

    def read(self, pending: Pending) -> tuple[Outcome, ...]:
        """Returns what became of the trials; waits for the device, and fetches the states of those that pause."""
        if pending.issued is None:
            return pending.outcomes
        if pending.issued.parked:
            rows = np.asarray(jax.device_get(pending.issued.rows))
            for number, lane in pending.issued.parked.items():
                if self.records[number].status not in ENDED:
                    self.parked[number] = rows[lane].copy()
        return outcomes.read(pending.group, pending.issued, self._dataset)

    def _took(self, outcome: Outcome, results: Results | None) -> None:
        """Takes note of one trial's round."""
        record = self.records[outcome.number]
        self.counts.busy += outcome.made
        if record.status in ENDED:
            self.counts.late += outcome.made
            return
        plan = self.plan(record.number)
        self.counts.steps += outcome.made // plan.accumulation
        self._changed.append(record)
        if outcome.diverged_at is not None:
            record.diverged_at = outcome.diverged_at // plan.accumulation
            record.objective = math.nan
            self._end(record, "diverged")
            return
        # The accuracy of NaN logits is that of the first class: it would pass for a value.
        sound = math.isfinite(outcome.numbers.get("val/loss", 0.0))
        value = outcome.numbers[self.objective.name] if sound else math.nan
        record.curve.append(Measured(outcome.tick, outcome.tick // plan.accumulation, value, outcome.numbers))
        seen = [Evaluation(measured.tick, measured.value) for measured in record.curve]
        record.objective = self.objective.of_run(seen)
        ends = outcome.tick >= plan.end or self._early_stopping(plan).stops_at(self.objective, seen) is not None
        self.kept.evaluated(record, seen, ends, results, outcome.lane)
        if ends:
            self._end(record, "done")
            return
        if self._pauses(record.number, outcome.evaluation):
            self._set(record, "paused")
        if self.units.evaluated(record.number) is Decision.STOP:
            self._stop(self.units.numbers(record.setting))

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
        key = self.plan(record.number).group
        del self._plans[record.number]
        self._set(record, status)
        record.ended = self.now
        self.kept.ended(record)
        for group in self.groups:
            if group.key == key:
                group.remove(record.number)
        self.parked.pop(record.number, None)
        if self.units.ended(record.number) is Decision.STOP:
            self._stop(self.units.numbers(record.setting))

    def _set(self, record: TrialRecord, status: Status) -> None:
        self.statuses[record.status] -= 1
        self.statuses[status] += 1
        record.status = status

    def _close(self) -> None:
        """Ends what is paused for ever."""
        for unit in self.scheduler.close():
            self._stop(self.units.numbers(unit))

    def _taken(self) -> list[TrialRecord]:
        changed, self._changed = self._changed, []
        return list({record.number: record for record in changed}.values())
