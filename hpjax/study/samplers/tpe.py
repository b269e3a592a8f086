"""Optuna's tree-structured Parzen estimator, asked for a batch of points at a time."""

import copy
import datetime
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hpjax.errors import ConfigError
from hpjax.study.samplers.base import SAMPLERS, LeafLike, Point, Sampler, Seen, words
from hpjax.study.samplers.random import Random

STREAM = 3
NEWEST = 1000
"""Of what was seen, as many are fitted to: the cost of a point stays the same however long the study is."""
NEVER = datetime.datetime.fromtimestamp(0)
"""Optuna wants a time for what has ended, and TPE does not look at it."""
STARTUP = 10
"""Points seen before which points are random."""


class Tpe(Sampler):
    """TPE, multivariate, with the points of a batch pushed apart.

    A batch is a fresh study of Optuna's in memory, told the newest 1,000 points, then asked `count` times; nothing is kept,
    so that the points follow from the seed, the batch's first number, its size and what was seen. Optuna's defaults
    otherwise: the densities are joint ones over all leaves (learning rate and momentum depend on each other), and points
    asked for and not yet told count as bad ones (constant liar), without which a batch would hold near copies of one point.
    Continuous leaves are floats in the cube, choices categories, other discrete leaves whole numbers, so that neighbours
    count as near.

    Infeasible points are told as pruned without a value: Optuna ranks these below everything that has one, as the method
    uses ranks only. As failed ones it would ignore them, and go where they came from again; a value made up for them would
    rank the same. With fewer than 10 points seen, or none feasible, the points are those of `random`.

    Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization (NeurIPS 2011); Watanabe, Tree-Structured Parzen
    Estimator (2023).
    """

    name = "tpe"
    learns = True

    def __init__(self, leaves: Sequence[LeafLike], seed: int):
        super().__init__(leaves, seed)
        self._random = Random(leaves, seed)
        self._optuna = _optuna()
        self._trial = _trial_type(self._optuna)
        self._names = [f"{place:06d}" for place in range(self.dimensions)]
        self._distributions = {name: self._distribution(leaf) for name, leaf in zip(self._names, self.leaves, strict=True)}

    def points(self, first: int, count: int, history: Sequence[Seen]) -> list[Point]:
        """Returns the points number first, ..., first + count - 1, chosen together."""
        newest = [seen for seen in history[-NEWEST:] if seen.point]
        if len(newest) < STARTUP or not any(math.isfinite(seen.score) for seen in newest):
            return self._random.points(first, count, history)
        with self._quiet():
            study = self._optuna.create_study(
                direction="maximize",
                sampler=self._optuna.samplers.TPESampler(
                    seed=int(words(STREAM, self.seed, first, 1)[0]) >> 32,
                    n_startup_trials=STARTUP,
                    multivariate=True,
                    constant_liar=True,
                ),
            )
            study.add_trials([self._told(seen) for seen in newest])
            return [self._asked(study.ask(self._distributions).params) for _ in range(count)]

    def _distribution(self, leaf: LeafLike) -> Any:
        distributions = self._optuna.distributions
        if leaf.count is None:
            return distributions.FloatDistribution(0, 1)
        if leaf.kind == "choice":
            return distributions.CategoricalDistribution(range(leaf.count))
        return distributions.IntDistribution(0, leaf.count - 1)

    def _told(self, seen: Seen) -> Any:
        feasible = math.isfinite(seen.score)
        params = {
            name: u if leaf.count is None else min(int(u * leaf.count), leaf.count - 1)
            for name, leaf, u in zip(self._names, self.leaves, seen.point, strict=True)
        }
        states = self._optuna.trial.TrialState
        return self._trial(
            number=-1,
            trial_id=-1,
            state=states.COMPLETE if feasible else states.PRUNED,
            value=seen.score if feasible else None,
            datetime_start=NEVER,
            datetime_complete=NEVER,
            params=params,
            distributions=self._distributions,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )

    def _asked(self, params: dict[str, Any]) -> Point:
        below_one = math.nextafter(1, 0)
        return tuple(
            min(params[name], below_one) if leaf.count is None else (params[name] + 0.5) / leaf.count
            for name, leaf in zip(self._names, self.leaves, strict=True)
        )

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Keeps Optuna from announcing every study that it makes."""
        level = self._optuna.logging.get_verbosity()
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        try:
            yield
        finally:
            self._optuna.logging.set_verbosity(level)


def _trial_type(optuna: Any) -> Any:
    class Told(optuna.trial.FrozenTrial):
        """A trial that ended: Optuna's storage copies it deeply, most of what telling 1,000 of them would cost."""

        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            return copy.copy(self)

    return Told


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "sampler 'tpe' needs Optuna, which is not installed; expected it (pip install optuna), or sampler halton"
        ) from None
    return optuna


@SAMPLERS.register
def tpe(leaves: Sequence[LeafLike], seed: int) -> Sampler:
    """Returns Optuna's TPE; it learns from what was seen."""
    return Tpe(leaves, seed)
