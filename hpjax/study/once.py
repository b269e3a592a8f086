"""The settings of a finite space, each tried once: a grid's, and those of a space that has no more than there are trials."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpjax import resolve
from hpjax.config import Config, StudyConfig
from hpjax.study.samplers import Sampler, Seen
from hpjax.study.samplers.base import Point
from hpjax.study.samplers.halton import Halton
from hpjax.study.space import Space
from hpjax.study.space.distributions import MOST_VALUES

DRAWS = 32
"""Points drawn for each point of a grid before what is left of it comes in order."""
_BATCH = 256


class Once(Sampler):
    """Settings of a finite space, each once.

    All of them in the grid's order; or, where fewer are to be tried, in an order of which every beginning is spread over the
    grid: the cells in which a Halton sequence lies, first come. A longer study goes on in the same order.
    """

    def __init__(self, sampler: Sampler, space: Space, known: "Known", begins: int, room: int):
        """Looks for the settings.

        Args:
          sampler: gives name and seed.
          space: a finite space.
          known: settings that are left out.
          begins: the number of the first point.
          room: how many settings there are to be from there on.
        """
        super().__init__(sampler.leaves, sampler.seed)
        self.name = sampler.name
        self._space, self._known, self._begins = space, known, begins
        self._order = list(itertools.islice((i for i in space.distinct() if space.grid_values(i) not in known), room + 1))
        self.spread = len(self._order) > room
        self.size = begins + len(self._order)
        if self.spread:
            self.size = begins + (space.grid_size or 0)
            self._order.clear()
            self._places = self._drawn()

    def points(self, first: int, count: int, history: Sequence[Seen]) -> list[Point]:
        """Returns the points number first, ..., first + count - 1; those of a number before the first are the first."""
        first = max(first - self._begins, 0)
        if self.spread:
            self._order += itertools.islice(self._places, max(first + count - len(self._order), 0))
        return [self._space.grid_point(index) for index in self._order[first : first + count]]

    def _drawn(self) -> Iterator[int]:
        """Yields all settings that are left in an order that is spread over the grid."""
        sequence, given = Halton(self.leaves, self.seed), set[tuple[tuple[str, Any], ...]]()
        cells = (
            self._space.grid_index(point)
            for begin in range(0, DRAWS * (self._space.grid_size or 0), _BATCH)
            for point in sequence.points(begin, _BATCH, [])
        )
        for index in itertools.chain(cells, self._space.distinct()):
            values = self._space.grid_values(index)
            if (one := tuple(values.items())) not in given:
                given.add(one)
                if values not in self._known:
                    yield index


class Known:
    """Settings that are known, whether they name all of a space's settings or leave some to the config."""

    def __init__(self, base: Config, space: Space, settings: Sequence[Mapping[str, Any]]):
        """Fills in what the settings leave open.

        Args:
          base: the config that they differ from.
          space: what varies.
          settings: values by name, seeds and folds left out.

        Raises:
          ConfigError: values that do not go together.
        """
        self._base = base
        self._settings = [(one, resolve.resolve(base.replace(**one))) for one in settings]
        self._of: dict[tuple[str, ...], set[tuple[Any, ...]]] = {}

    def __contains__(self, values: Mapping[str, Any]) -> bool:
        names = tuple(values)
        if names not in self._of:
            self._of[names] = {
                tuple(one.get(name, getattr(config, name)) for name in names)
                for one, config in self._settings
                if all(name in names or value == getattr(self._base, name) for name, value in one.items())
            }
        return tuple(values.values()) in self._of[names]


def of(
    sampler: Sampler,
    space: Space,
    study: StudyConfig,
    base: Config,
    enqueued: Sequence[Mapping[str, Any]],
    tried: Sequence[Mapping[str, Any]] = (),
) -> Sampler:
    """Returns what gives every setting once where the sampler is a grid or the space has no more of them than the study.

    Args:
      sampler: the study's.
      space: what varies.
      study: the study's settings.
      base: the config that trials differ from.
      enqueued: settings that come first.
      tried: all settings, those among them, that were tried before the study was last made longer.
    """
    if space.grid_size is None or space.grid_size > MOST_VALUES:
        return sampler
    begins = max(len(tried) - len(enqueued), 0)
    room = study.trials // len(space.replicas) - len(enqueued) - begins
    if room < 0:
        return sampler
    if sampler.name != "grid" and not _all_fit(space, room + len(enqueued) + len(tried)):
        return sampler
    once = Once(sampler, space, Known(base, space, [*enqueued, *tried]), begins, room)
    return once if sampler.name == "grid" or not once.spread else sampler


def _all_fit(space: Space, most: int) -> bool:
    """Returns whether a space has no more than so many settings, as far as can be told at once."""
    return next(itertools.islice(space.distinct(), most, None), None) is None
