"""Synchronous successive halving in brackets: a rung decides once the last unit of its bracket has come to it."""

import abc
import bisect
import dataclasses
from collections import deque
from typing import Any

from hpjax.study.schedulers.base import OVER, Decision, Scheduler
from hpjax.study.schedulers.scores import INFEASIBLE
from hpjax.study.schedulers.settings import SchedulerSettings

GONE = -1
"""Number in the place of a unit that has ended while it waited."""


@dataclasses.dataclass
class Bracket:
    """Units that are judged together.

    Attributes:
      size: units that it takes.
      rungs: evaluations at which it decides, ascending.
      joined: units that have begun in it.
      level: the rung that its units run to; after the last rung, the number of rungs.
      awaited: the units that have not come to that rung yet.
      came: how many have.
      ranked: (-score, unit) of those among them that wait and may go on, the best first.
    """

    size: int
    rungs: tuple[int, ...]
    joined: int = 0
    level: int = 0
    awaited: set[int] = dataclasses.field(default_factory=set)
    came: int = 0
    ranked: list[tuple[float, int]] = dataclasses.field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether another unit may join."""
        return self.level == 0 and self.joined < self.size

    @property
    def rung(self) -> int | None:
        """The evaluation that its units run to, None: their end."""
        return self.rungs[self.level] if self.level < len(self.rungs) else None

    def arrive(self, unit: int, score: float) -> None:
        """Takes note of a unit at its rung; an infeasible one counts and will not go on."""
        self.awaited.discard(unit)
        self.came += 1
        if score > INFEASIBLE:
            bisect.insort(self.ranked, (-score, unit))

    def leave(self, unit: int) -> None:
        """Takes note that a unit that waited has ended: nobody goes on in its place."""
        self.ranked = sorted((score, GONE if waiting == unit else waiting) for score, waiting in self.ranked)

    def beaten(self, eta: int) -> list[int]:
        """Returns, and takes off the list, the units that cannot go on, whatever the awaited ones come to."""
        members = self.size if self.level == 0 else self.came + len(self.awaited)
        keep = max(members // eta, 1)
        beaten = [self.ranked.pop()[1] for _ in range(len(self.ranked) - keep)]
        return [unit for unit in beaten if unit != GONE]

    def halve(self) -> list[int]:
        """Goes to the next level and returns the units that go with it, best first."""
        best = [unit for _, unit in self.ranked if unit != GONE]
        self.level += 1
        # To its end nobody waits for a unit.
        self.awaited = set(best) if self.level < len(self.rungs) else set()
        self.came, self.ranked = 0, []
        return best


class Synchronous(Scheduler):
    """Runs brackets that a subclass plans; units join them in the order in which they begin.

    A unit that comes to its bracket's rung waits. When the last one has come (or ended by itself, which counts as an
    infeasible score), the max(1, floor(n / eta)) best of the n go on, infeasible ones never; of equal scores the lower
    number is the better, so that the order of arrival means nothing. A unit is dropped as soon as so many are better.
    Brackets overlap: while one waits for its last units, units of the next may begin. `resume` hands out units in the order
    in which their rungs were decided, the best of each first.
    A bracket that fewer units join than it takes decides with those, once no more will begin.
    """

    def __init__(self, settings: SchedulerSettings, units: int | None, last: int):
        super().__init__(settings, units, last)
        self._brackets: list[Bracket] = []
        self._ready: deque[int] = deque()

    @abc.abstractmethod
    def _plan(self, index: int) -> tuple[int, tuple[int, ...]]:
        """Returns size and rungs of the bracket of that place in the order."""

    def pauses_at(self, unit: int, evaluation: int) -> bool:
        """Returns whether a running unit waits after an evaluation, unless it stops there."""
        stage = self._stage.get(unit, OVER)
        rung = None if stage == OVER else self._brackets[stage].rung
        return rung is not None and rung <= evaluation < self.last

    def no_more(self) -> None:
        """Tells that no new unit will begin: the bracket that is filling decides with the units that it has."""
        super().no_more()
        if self._brackets:
            self._decide_rung(self._brackets[-1])

    def close(self) -> list[int]:
        """Ends the study: returns all units that still wait or were dropped since the last call."""
        left = super().close()
        self._ready.clear()
        for bracket in self._brackets:
            bracket.level = len(bracket.rungs)
            bracket.awaited, bracket.came, bracket.ranked = set(), 0, []
        return left

    def _enter(self, unit: int) -> int:
        # The stage is the bracket's place.
        if not self._brackets or not self._brackets[-1].open:
            self._brackets.append(Bracket(*self._plan(len(self._brackets))))
        self._brackets[-1].joined += 1
        self._brackets[-1].awaited.add(unit)
        return len(self._brackets) - 1

    def _decide(self, unit: int, evaluation: int, score: float) -> Decision:
        if not self.pauses_at(unit, evaluation):
            return Decision.CONTINUE
        if score == INFEASIBLE:
            self._lose(unit)
            self._stage[unit] = OVER
            return Decision.STOP
        self._paused.add(unit)
        self._arrive(unit, score)
        if unit in self._paused:
            return Decision.PAUSE
        self._dropped.remove(unit)
        return Decision.STOP

    def _lose(self, unit: int, waited: bool = False) -> None:
        bracket = self._brackets[self._stage[unit]]
        if waited and unit not in bracket.awaited:
            bracket.leave(unit)
        elif bracket.rung is not None:
            self._arrive(unit, INFEASIBLE)

    def _arrive(self, unit: int, score: float) -> None:
        bracket = self._brackets[self._stage[unit]]
        bracket.arrive(unit, score)
        self._decide_rung(bracket)

    def _decide_rung(self, bracket: Bracket) -> None:
        """Decides a bracket's rung, or as much of it as is certain while units are awaited."""
        if bracket.rung is None:
            return
        filling = bracket is self._brackets[-1] and bracket.open and self.may_begin()
        if not bracket.awaited and not filling and bracket.open:
            bracket.size = bracket.joined
        for unit in bracket.beaten(self.settings.eta):
            self._drop(unit)
        if not bracket.awaited and not filling:
            self._ready.extend(bracket.halve())

    def _next(self) -> int | None:
        while self._ready:
            unit = self._ready.popleft()
            if unit in self._paused:
                return unit
        return None

    def state(self) -> dict[str, Any]:
        """Returns all that it knows, as values that JSON can hold."""
        brackets = [[b.size, b.rungs, b.joined, b.level, sorted(b.awaited), b.came, list(b.ranked)] for b in self._brackets]
        return super().state() | {"brackets": brackets, "ready": list(self._ready)}

    def load(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave; raises ConfigError where the rungs are others."""
        super().load(state)
        self._brackets = [
            Bracket(size, tuple(rungs), joined, level, set(awaited), came, [(score, unit) for score, unit in ranked])
            for size, rungs, joined, level, awaited, came, ranked in state["brackets"]
        ]
        self._ready = deque(state["ready"])
