"""What is tried next: points that were asked for by name first, then the sampler's."""

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from hpjax.study.records import TrialRecord
from hpjax.study.samplers import Sampler, Seen
from hpjax.study.samplers.base import Point
from hpjax.study.space import Space


class Asker:
    """Makes the records of new settings: a trial for each seed and fold.

    Attributes:
      sampler: gives points of the space.
      replicas: seeds and folds of every setting.
      settings: settings in all.
      learns: whether what was seen decides what is tried next.
    """

    def __init__(self, space: Space, sampler: Sampler, trials: int, enqueued: Sequence[Mapping[str, Any]] = ()):
        """Says what there is to try.

        Args:
          space: what varies.
          sampler: gives points of the space.
          trials: trials in all.
          enqueued: values of settings that come first.
        """
        self._space, self.sampler = space, sampler
        self.learns = sampler.learns
        self._enqueued = list(enqueued)
        self._before: list[Seen] = []
        self.replicas = space.replicas
        most = trials // len(self.replicas)
        size = sampler.size
        self.settings = most if size is None else min(most, len(self._enqueued) + size)
        self._points: deque[Point] = deque()
        self._want, self._history = 1, self._before

    def tell(self, before: Sequence[Seen]) -> None:
        """Tells the sampler of another study's results."""
        self._before = list(before)

    def fingerprint(self) -> str:
        """Returns a checksum of what a study begins with: the settings that come first, another study's results."""
        return hashlib.sha256(repr((self._enqueued, self._before)).encode()).hexdigest()

    def look(self, want: int, history: Sequence[Seen]) -> None:
        """Shows the sampler what was seen so far, before some settings are asked for.

        Args:
          want: settings that will be asked for, about.
          history: results by point, newest last.
        """
        self._want, self._history = max(want, 1), [*self._before, *history]
        self._points.clear()

    def more(self, first: int, count: int) -> list[tuple[dict[str, Any], Point]]:
        """Returns the sampler's settings from a number on, with their points, however many trials there are to be."""
        points = self.sampler.points(first, count, self._history)
        return [(self._space.values(point), point) for point in points]

    def next(self, trials: int) -> list[TrialRecord]:
        """Returns the trials of the next setting, after the first `trials` of the study; none once all have been given."""
        setting = trials // len(self.replicas)
        if setting >= self.settings:
            return []
        point: tuple[float, ...] = ()
        if setting < len(self._enqueued):
            values = dict(self._enqueued[setting])
        else:
            if not self._points:
                count = min(self._want, self.settings - setting)
                self._points.extend(self.sampler.points(setting - len(self._enqueued), count, self._history))
            point = self._points.popleft()
            values = self._space.values(point)
        return [TrialRecord(trials + i, setting, {**values, **replica}, point) for i, replica in enumerate(self.replicas)]


class Given(Asker):
    """Gives the settings that it was handed.

    Attributes:
      queue: values and points of settings to come.
    """

    def __init__(self, asker: Asker):
        """Takes over the space and the sampler of another one."""
        super().__init__(asker._space, asker.sampler, 0)
        self.learns = False
        self.tell(asker._before)
        self.queue: deque[tuple[dict[str, Any], Point]] = deque()

    def next(self, trials: int) -> list[TrialRecord]:
        """Returns the trials of the next setting that was handed in; none if none is left."""
        if not self.queue:
            return []
        values, point = self.queue.popleft()
        setting = trials // len(self.replicas)
        return [TrialRecord(trials + i, setting, {**values, **replica}, point) for i, replica in enumerate(self.replicas)]
