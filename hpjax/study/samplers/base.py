"""What a sampler is: a pure function of the study's seed, a setting's number and what was seen; it keeps no state.

Settings are numbered from 0; a point has one float in [0, 1) for each leaf of the space. A discrete leaf cuts its side of
the cube into `count` equal cells.
"""

import abc
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from hpjax.errors import ConfigError
from hpjax.registry import Registry

Point = tuple[float, ...]
"""A place in the unit cube: a float in [0, 1) for each leaf."""


class LeafLike(Protocol):
    """A sampled coordinate of the space, as far as samplers care.

    Attributes:
      setting: name of the setting that it belongs to, for messages.
      kind: log, uniform, int, choice or grid.
      count: how many values it has; None if it is continuous.
    """

    @property
    def setting(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def count(self) -> int | None: ...  # noqa: D102


class Seen(NamedTuple):
    """A setting that was tried.

    Attributes:
      point: its place in the unit cube; empty for one that was given by hand and has none.
      score: more is better; what is not finite is infeasible.
    """

    point: Point
    score: float


class Sampler(abc.ABC):
    """Chooses the points of a study.

    Attributes:
      name: its name in `SAMPLERS`.
      size: points that there are; None if they do not end.
      learns: whether its points follow from what was seen.
    """

    name: str
    size: int | None = None
    learns: bool = False

    def __init__(self, leaves: Sequence[LeafLike], seed: int):
        """Sets up a sampler.

        Args:
          leaves: the coordinates, in the order of a point's.
          seed: of the study, 0 to 2^64 - 1.

        Raises:
          ConfigError: the seed is out of its range, or the sampler cannot serve these leaves.
        """
        if not 0 <= seed < 2**64:
            raise ConfigError(f"sampler '{self.name}': seed is {seed}; expected a whole number from 0 to 2^64 - 1")
        self.leaves, self.seed = tuple(leaves), seed

    @property
    def dimensions(self) -> int:
        """Coordinates of a point."""
        return len(self.leaves)

    @abc.abstractmethod
    def points(self, first: int, count: int, history: Sequence[Seen]) -> list[Point]:
        """Returns the points number first, ..., first + count - 1; fewer where `size` ends before.

        Args:
          first: number of the first point, from 0.
          count: how many.
          history: what was tried so far, newest last; only samplers that learn look at it.
        """


SAMPLERS: Registry[Callable[[Sequence[LeafLike], int], Sampler]] = Registry("sampler")
"""Functions `(leaves, seed) -> Sampler`."""


def words(stream: int, seed: int, number: int, count: int) -> np.ndarray:
    """Returns random 64-bit words of a counter-based generator.

    Args:
      stream: what they are for; each use has its own.
      seed: of the study, 0 to 2^64 - 1.
      number: from 0; each has its own words.
      count: how many.

    Returns:
      uint64 [count], the same with every version of NumPy, which promises Philox's raw words and not what is made of them.
      Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011): Philox 4x64.
    """
    # The counter counts blocks of four words from its low end; a number's blocks are 2^64.
    return np.random.Philox(key=(stream << 64) | seed, counter=number << 64).random_raw(count)


def units(raw: np.ndarray) -> list[float]:
    """Returns uint64 words as floats, multiples of 2^-53 in [0, 1)."""
    return ((raw >> np.uint64(11)) * 2.0**-53).tolist()
