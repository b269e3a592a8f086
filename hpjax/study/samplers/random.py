"""Random search: independent uniform points."""

from collections.abc import Sequence

from hpjax.study.samplers.base import SAMPLERS, LeafLike, Point, Sampler, Seen, units, words

STREAM = 1


class Random(Sampler):
    """Independent uniform points; each follows from the seed and its number alone.

    Source: Bergstra and Bengio, Random Search for Hyper-Parameter Optimization (JMLR 2012).
    """

    name = "random"

    def points(self, first: int, count: int, history: Sequence[Seen]) -> list[Point]:
        """Returns the points number first, ..., first + count - 1."""
        numbers = range(first, first + count)
        return [tuple(units(words(STREAM, self.seed, number, self.dimensions))) for number in numbers]


@SAMPLERS.register
def random(leaves: Sequence[LeafLike], seed: int) -> Sampler:
    """Returns the sampler of independent uniform points."""
    return Random(leaves, seed)
