"""What a scheduler is: told every score, it says which units of a study go on, which stop and which wait.

A *unit* is a hyperparameter setting with all its seeds; its budget is counted in *evaluations*, 1 to `last`. The engine

1. takes a lane for `resume()` or, where that gives None and `may_begin()` holds, for a new unit, which it tells `begin`;
2. tells `report` every evaluation and does what it answers, or tells `ended` that a unit has ended before `last`;
3. frees what `dropped()` names; tells `no_more` once no new unit will come, and asks `close()` at the study's end.

Everything is plain Python of whole numbers and comparisons: same reports in the same order, same decisions.
"""

import abc
import enum
from collections.abc import Callable
from typing import Any

from hpjax.errors import ConfigError
from hpjax.registry import Registry
from hpjax.study.schedulers.scores import sound
from hpjax.study.schedulers.settings import SchedulerSettings

OVER = -1
"""Stage of a unit that has ended, in whatever way."""


class Decision(enum.Enum):
    """What becomes of a unit after an evaluation; a unit that waits gives its lane to another."""

    CONTINUE = "continue"
    STOP = "stop"
    PAUSE = "pause"


class Scheduler(abc.ABC):
    """Decides which units go on.

    Attributes:
      name: its name in `SCHEDULERS`.
      rungs: the evaluations at which it decides, ascending.
    """

    name: str
    rungs: tuple[int, ...] = ()

    def __init__(self, settings: SchedulerSettings, units: int | None, last: int):
        """Sets up a scheduler of a study that has not begun.

        Args:
          settings: see there.
          units: units that the study will try; None if that is unknown.
          last: evaluations of a whole run.

        Raises:
          ConfigError: `units` or `last` is less than 1, or the settings leave no evaluation at which it could decide.
        """
        for what, value in (("units", units), ("last evaluation", last)):
            if value is not None and value < 1:
                raise ConfigError(f"scheduler '{self.name}': {what} is {value}; expected a whole number >= 1")
        self.settings, self.units, self.last = settings, units, last
        self._stage: dict[int, int] = {}
        self._paused: set[int] = set()
        self._dropped: list[int] = []
        self._more = True

    def begin(self, unit: int) -> None:
        """Tells that a unit begins; one that is known already changes nothing."""
        if unit not in self._stage:
            self._stage[unit] = self._enter(unit)

    def report(self, unit: int, evaluation: int, score: float) -> Decision:
        """Returns what becomes of a unit after an evaluation.

        A decision may be carried out late: of a unit that has ended or waits it says so again and counts nothing. A rung
        is decided at the first evaluation reported at or after it.

        Args:
          unit: its number; begun hereby if it was not.
          evaluation: 1 to `last`; after the last there is nothing to decide.
          score: more is better; what is not finite is infeasible and never among the best.
        """
        if not 1 <= evaluation <= self.last:
            raise ValueError(f"evaluation is {evaluation}; expected 1 to {self.last}")
        self.begin(unit)
        if self._stage[unit] == OVER:
            return Decision.STOP
        if unit in self._paused:
            return Decision.PAUSE
        if evaluation == self.last:
            self._finish(unit)
            self._stage[unit] = OVER
            return Decision.CONTINUE
        return self._decide(unit, evaluation, sound(score))

    def pauses_at(self, unit: int, evaluation: int) -> bool:
        """Returns whether a running unit waits after an evaluation, whatever its score there, unless it stops.

        That is known before the score is: `report` then answers PAUSE or STOP, and elsewhere CONTINUE or STOP.
        """
        return False

    def ended(self, unit: int) -> None:
        """Tells that a unit has ended before `last`, diverged or stopped early: at its next rung it counts as infeasible.

        One that waits may end, too, where its pause was carried out late; then it counts at the rung where it waits.
        """
        self.begin(unit)
        if self._stage[unit] != OVER:
            waited = unit in self._paused
            self._paused.discard(unit)
            self._lose(unit, waited)
            self._stage[unit] = OVER

    def resume(self) -> int | None:
        """Returns a unit that waited and goes on now, or None; each call hands out another one."""
        unit = self._next() if self._paused else None
        if unit is not None:
            self._paused.remove(unit)
        return unit

    def may_begin(self) -> bool:
        """Returns whether a new unit may begin."""
        return self._more and (self.units is None or len(self._stage) < self.units)

    def no_more(self) -> None:
        """Tells that no new unit will begin, though `units` is larger or unknown."""
        self._more = False

    def dropped(self) -> list[int]:
        """Returns the units that waited and will never go on, since the last call."""
        dropped, self._dropped = sorted(self._dropped), []
        return dropped

    def close(self) -> list[int]:
        """Ends the study: returns all units that still wait or were dropped since the last call."""
        self.no_more()
        left = sorted([*self.dropped(), *self._paused])
        self._paused.clear()
        self._stage = dict.fromkeys(self._stage, OVER)
        return left

    def state(self) -> dict[str, Any]:
        """Returns all that it knows, as values that JSON can hold."""
        return {
            "rungs": list(self.rungs),
            "units": self.units,
            "more": self._more,
            "stage": list(self._stage.items()),
            "paused": sorted(self._paused),
            "dropped": list(self._dropped),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave, of a scheduler with the same settings; `units` may have grown since.

        Raises:
          ConfigError: the state's rungs are others.
        """
        if tuple(state["rungs"]) != self.rungs:
            raise ConfigError(f"scheduler '{self.name}' has rungs {self.rungs}; the study has {tuple(state['rungs'])}")
        self._more = state["more"] or state["units"] != self.units
        self._stage = {unit: stage for unit, stage in state["stage"]}
        self._paused = set(state["paused"])
        self._dropped = list(state["dropped"])

    def _enter(self, unit: int) -> int:
        """Returns the stage of a unit that begins: a number of the scheduler's own, not OVER."""
        return 0

    @abc.abstractmethod
    def _decide(self, unit: int, evaluation: int, score: float) -> Decision:
        """Returns what becomes of a running unit before `last`; who pauses it adds it to `_paused`."""

    def _finish(self, unit: int) -> None:  # noqa: B027 - for most there is nothing to do
        """A running unit has come to `last`."""

    def _lose(self, unit: int, waited: bool = False) -> None:  # noqa: B027
        """A unit that ran, or waited, ends by itself."""

    def _next(self) -> int | None:
        """Returns the paused unit that goes on now."""
        return None

    def _drop(self, unit: int) -> None:
        """A unit that waits will never go on."""
        self._paused.remove(unit)
        self._stage[unit] = OVER
        self._dropped.append(unit)

    def _needs_rungs(self) -> None:
        if not self.rungs:
            raise ConfigError(
                f"scheduler '{self.name}' has nothing to decide: min_evaluations is {self.settings.min_evaluations}, eta is "
                f"{self.settings.eta} and a run has {self.last} evaluation{'s' if self.last > 1 else ''}; expected more"
            )


SCHEDULERS: Registry[Callable[[SchedulerSettings, int | None, int], Scheduler]] = Registry("scheduler")
"""Functions `(settings, units, last) -> Scheduler`."""
