"""Samplers: points that follow from seed and number, SciPy's Halton sequence, grids, Optuna's TPE, bad settings."""

import builtins
import itertools
import logging
import math
import statistics
import sys
from dataclasses import dataclass

import numpy as np
import optuna
import pytest
from scipy import stats
from scipy.stats import qmc

from hpjax.errors import ConfigError
from hpjax.study import samplers
from hpjax.study.samplers import SAMPLERS, Seen
from hpjax.study.samplers.halton import digits, primes, radical_inverse


@dataclass(frozen=True)
class Leaf:
    setting: str = "learning_rate"
    kind: str = "log"
    count: int | None = None


CONTINUOUS = [Leaf(), Leaf("momentum", "uniform"), Leaf("weight_decay", "log")]
DISCRETE = [Leaf("batch_size", "grid", 3), Leaf("optimizer", "choice", 2), Leaf("layers", "int", 4)]
SEEDS = range(20)


def drawn(name: str, count: int, leaves=CONTINUOUS, seed: int = 0, first: int = 0) -> np.ndarray:
    return np.array(samplers.create(name, leaves, seed).points(first, count, []))


def scored(count: int) -> list[Seen]:
    """Returns random points with the scores of `smooth`."""
    return [Seen(tuple(point), smooth(point)) for point in drawn("random", count).tolist()]


def test_all_are_registered():
    assert set(SAMPLERS.names()) == {"random", "halton", "grid", "tpe"}


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_points_lie_in_the_cube(name):
    leaves = DISCRETE if name == "grid" else CONTINUOUS + DISCRETE
    history = [Seen(tuple(p), sum(p)) for p in drawn("random", 30, leaves).tolist()]
    points = samplers.create(name, leaves, 3).points(0, 20, history)
    assert len(points) == 20
    for point in points:
        assert type(point) is tuple and len(point) == len(leaves)
        assert all(type(u) is float and 0 <= u < 1 for u in point)


@pytest.mark.parametrize("name", ["random", "halton", "grid"])
def test_any_chunking_gives_the_same_points(name, rng):
    leaves = [Leaf("a", "grid", 50), Leaf("b", "choice", 20)] if name == "grid" else CONTINUOUS
    seed = int(rng.integers(2**32))
    whole = samplers.create(name, leaves, seed).points(0, 1000, [])
    cuts = sorted({0, 1000, *map(int, rng.integers(0, 1000, 20))})
    pieces = [samplers.create(name, leaves, seed).points(a, b - a, []) for a, b in itertools.pairwise(cuts)]
    assert [point for piece in pieces for point in piece] == whole
    history = [Seen(whole[0], 1.0)] * 20
    assert samplers.create(name, leaves, seed).points(0, 1000, history) == whole
    assert len(set(whole)) == 1000


@pytest.mark.parametrize("name", ["random", "halton"])
def test_seeds_and_numbers_give_different_points(name):
    points = [tuple(point) for seed in (0, 1, 2**32 - 1, 2**64 - 1) for point in drawn(name, 100, seed=seed)]
    assert len(set(points)) == 400
    assert len(drawn(name, 3, first=10**9)) == 3


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_a_space_without_leaves_has_the_empty_point(name):
    sampler = samplers.create(name, [], 0)
    assert sampler.points(0, 1, [Seen((), 0.0)] * 20) == [()]
    assert sampler.size == (1 if name == "grid" else None)


def test_random_points_are_these():
    # So that a study of today can be repeated tomorrow: Philox's words, which NumPy promises to keep.
    raw = np.random.Philox(key=(1 << 64) | 7, counter=5 << 64).random_raw(3)
    assert drawn("random", 1, seed=7, first=5)[0].tolist() == [int(word) // 2**11 / 2**53 for word in raw]
    assert drawn("random", 1, seed=7, first=5)[0].tolist() == [0.4460889564336221, 0.9078773680255806, 0.5596543449587507]
    assert drawn("halton", 1, seed=7, first=5)[0].tolist() == [0.8937117777534621, 0.9844831046560428, 0.22416998864419427]


@pytest.mark.parametrize("name", ["random", "halton"])
def test_points_are_uniform(name):
    # Twenty seeds of 500 points in three coordinates: the least of 60 p-values, of known seeds.
    least = min(stats.kstest(side, "uniform").pvalue for seed in SEEDS for side in drawn(name, 500, seed=seed).T)
    assert least > 1e-4
    # And one point of many seeds, the first ones included: what scrambling without leading zeros would not give.
    for number in (0, 1, 17):
        firsts = np.concatenate([drawn(name, 1, seed=seed, first=number) for seed in range(1000)])
        assert min(stats.kstest(side, "uniform").pvalue for side in firsts.T) > 1e-4
        assert np.abs(np.corrcoef(firsts.T)[np.triu_indices(3, 1)]).max() < 4 / math.sqrt(1000)


def test_random_points_are_independent():
    points = drawn("random", 4000)
    neighbours = [np.corrcoef(points[:-1, i], points[1:, j])[0, 1] for i in range(3) for j in range(3)]
    assert np.abs(neighbours).max() < 4 / math.sqrt(4000)
    cells = np.floor(points * 5).astype(int) @ [25, 5, 1]
    assert stats.chisquare(np.bincount(cells, minlength=125)).pvalue > 1e-4


def test_primes():
    assert primes(12) == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37]
    assert primes(0) == []


def test_digits_fit_a_float():
    # 2^53; 3^33 = 5.6e15 < 9.0e15 < 3^34; 5^22 = 2.4e15 < 9.0e15 < 5^23
    assert [digits(base) for base in (2, 3, 5)] == [53, 33, 22]


def test_the_unscrambled_sequence_is_scipys():
    expected = qmc.Halton(8, scramble=False).random(2000)
    ours = np.stack([radical_inverse(np.arange(2000), base) for base in primes(8)], axis=1)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=4e-16)
    # By hand: 6 = 110 in base 2: 0.011 = 3/8; 6 = 20 in base 3: 0.02 = 2/9; 6 = 11 in base 5: 0.11 = 6/25
    assert ours[6, :3].tolist() == [3 / 8, 2 / 9, 6 / 25]


@pytest.mark.parametrize("base", [2, 3, 5, 7, 113])
def test_the_largest_coordinate_is_below_one(base):
    reverse = np.tile(np.arange(base)[::-1], (digits(base), 1))
    assert 0.999 < radical_inverse(np.array([0]), base, reverse)[0] < 1


@pytest.mark.parametrize("seed", SEEDS)
def test_scrambled_points_lie_one_in_each_cell(seed):
    points = drawn("halton", 7**3, seed=seed)
    for side, base in zip(points.T, primes(3), strict=True):
        power = base
        while power <= len(side):
            for begin in range(0, len(side) - power + 1, power):
                cells = np.floor(side[begin : begin + power] * power).astype(int)
                assert sorted(cells) == list(range(power))
            power *= base


def test_halton_is_as_even_as_scipys_and_more_than_random():
    ours, theirs, random = (
        [qmc.discrepancy(points) for points in found]
        for found in (
            [drawn("halton", 256, seed=seed) for seed in SEEDS],
            [qmc.Halton(3, scramble=True, rng=np.random.default_rng(seed)).random(256) for seed in SEEDS],
            [drawn("random", 256, seed=seed) for seed in SEEDS],
        )
    )
    assert statistics.median(ours) < 1.1 * statistics.median(theirs)
    assert max(ours) < min(random)
    assert statistics.median(ours) < 0.2 * statistics.median(random)


def test_halton_in_many_dimensions_is_not_on_lines():
    # Unscrambled, the last of 30 coordinates rise together: 0/109, 1/109, ... beside 0/113, 1/113, ...
    leaves = [Leaf()] * 30
    points = drawn("halton", 100, leaves)
    assert np.abs(np.corrcoef(points.T)[np.triu_indices(30, 1)]).max() < 0.5
    plain = np.stack([radical_inverse(np.arange(100), base) for base in primes(30)[-2:]])
    assert np.corrcoef(plain)[0, 1] > 0.99


def test_grid_is_the_product():
    sampler = samplers.create("grid", DISCRETE, 0)
    sides = [[(cell + 0.5) / leaf.count for cell in range(leaf.count)] for leaf in DISCRETE]
    assert sampler.size == 24
    assert sampler.points(0, 24, []) == list(itertools.product(*sides))
    assert sampler.points(20, 100, []) == list(itertools.product(*sides))[20:]
    assert sampler.points(24, 1, []) == []


@pytest.mark.parametrize("count", [1, 2, 3, 10, 49, 1000, 999_983])
def test_a_cells_centre_lies_in_the_cell(count):
    sampler = samplers.create("grid", [Leaf("x", "int", count)], 0)
    some = sorted({0, count // 3, count // 2, count - 1})
    assert [int(sampler.points(cell, 1, [])[0][0] * count) for cell in some] == some


def smooth(point) -> float:
    """Best, 0, at (0.3, 0.7, 0.2), as a loss around its best learning rate, momentum and decay is."""
    return -sum(weight * (u - best) ** 2 for u, best, weight in zip(point, (0.3, 0.7, 0.2), (4, 2, 1), strict=True))


def search(name: str, seed: int, trials: int, batch: int, leaves=CONTINUOUS, score=smooth) -> list[Seen]:
    sampler, history = samplers.create(name, leaves, seed), []
    for first in range(0, trials, batch):
        history += [Seen(point, score(point)) for point in sampler.points(first, batch, history)]
    return history


@pytest.mark.parametrize("batch", [1, 8])
def test_tpe_finds_better_points_than_random_search(batch):
    best = {
        name: statistics.median(max(seen.score for seen in search(name, seed, 64, batch)) for seed in range(7))
        for name in ("random", "tpe")
    }
    assert best["tpe"] > best["random"] / 3


def test_tpe_learns_of_discrete_leaves():
    def score(point) -> float:
        return -abs(point[0] - 0.5) - (point[1] < 0.5) - abs(point[2] - 0.875)

    history = search("tpe", 0, 96, 8, DISCRETE, score)
    cells = {tuple(int(u * leaf.count) for u, leaf in zip(seen.point, DISCRETE, strict=True)) for seen in history}
    assert cells <= set(itertools.product(range(3), range(2), range(4)))
    assert all((u * leaf.count) % 1 == pytest.approx(0.5) for u, leaf in zip(history[-1].point, DISCRETE, strict=True))
    best = sum(seen.score == 0 for seen in history[-48:])
    assert best > 3 * 48 / 24  # of 24 cells one is the best


def test_tpe_keeps_away_from_infeasible_points():
    def score(point) -> float:
        return math.nan if point[0] > 0.5 else point[1]

    for seed in range(3):
        history = search("tpe", seed, 80, 8, CONTINUOUS[:2], score)
        assert sum(math.isnan(seen.score) for seen in history[40:]) < 8  # random search: 20 of 40


def test_tpe_is_a_function_of_seed_number_and_history():
    history = scored(40)
    points = samplers.create("tpe", CONTINUOUS, 5).points(40, 6, history)
    used = samplers.create("tpe", CONTINUOUS, 5)
    used.points(0, 3, history)
    assert used.points(40, 6, list(history)) == points
    assert samplers.create("tpe", CONTINUOUS, 6).points(40, 6, history) != points
    assert used.points(41, 6, history) != points
    without_best = sorted(history, key=lambda seen: seen.score)[:-1]
    assert used.points(40, 6, without_best) != points
    # Of a batch all are different, and asking for fewer gives its beginning.
    assert len(set(points)) == 6
    assert used.points(40, 2, history) == points[:2]


def test_tpe_is_optunas():
    history = scored(30)
    seeds, ask = [], samplers.create("tpe", CONTINUOUS, 5)
    create = optuna.samplers.TPESampler

    class Spied(create):
        def __init__(self, **settings):
            seeds.append(settings["seed"])
            super().__init__(**settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.samplers, "TPESampler", Spied)
        points = ask.points(30, 4, history)
    distributions = {name: optuna.distributions.FloatDistribution(0, 1) for name in "abc"}
    study = optuna.create_study(direction="maximize", sampler=create(seed=seeds[0], multivariate=True, constant_liar=True))
    for seen in history:
        params = dict(zip("abc", seen.point, strict=True))
        study.add_trial(optuna.create_trial(value=seen.score, params=params, distributions=distributions))
    assert [tuple(study.ask(distributions).params.values()) for _ in range(4)] == points


def test_tpe_begins_with_random_points():
    history = scored(10)
    sampler = samplers.create("tpe", CONTINUOUS, 5)
    random = samplers.create("random", CONTINUOUS, 5).points(7, 4, [])
    assert sampler.points(7, 4, []) == random
    assert sampler.points(7, 4, history[:9]) == random
    assert sampler.points(7, 4, history) != random
    # What has no place in the cube teaches nothing; nor do points none of which is feasible.
    assert sampler.points(7, 4, [*history[:9], Seen((), 1.0)]) == random
    assert sampler.points(7, 4, [Seen(seen.point, -math.inf) for seen in history]) == random


def test_tpe_looks_at_the_newest_thousand():
    history = scored(1010)
    # The best are the ten that are too old, and the oldest that counts.
    history[:11] = [Seen((0.99, 0.01, 0.99), 1.0)] * 11
    sampler = samplers.create("tpe", CONTINUOUS, 5)
    assert sampler.points(1010, 2, history) == sampler.points(1010, 2, history[10:])
    assert sampler.points(1010, 2, history) != sampler.points(1010, 2, history[11:])


def test_tpe_says_nothing_and_leaves_optunas_log_as_it_is(caplog):
    history = scored(12)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level(logging.DEBUG):
            samplers.create("tpe", CONTINUOUS, 0).points(12, 2, history)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
        assert not caplog.records
    finally:
        optuna.logging.disable_propagation()
        optuna.logging.set_verbosity(before)


def test_tpe_without_optuna(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "optuna":
            raise ImportError("No module named 'optuna'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, "optuna")
    with pytest.raises(ConfigError) as raised:
        samplers.create("tpe", CONTINUOUS, 0)
    assert str(raised.value) == (
        "sampler 'tpe' needs Optuna, which is not installed; expected it (pip install optuna), or sampler halton"
    )


@pytest.mark.parametrize(
    ("name", "leaves", "seed", "message"),
    [
        ("haltn", [], 0, "sampler 'haltn' is unknown; did you mean 'halton'? known: grid, halton, random, tpe"),
        (
            "grid",
            [*DISCRETE, Leaf()],
            0,
            "sampler 'grid': 'learning_rate' is continuous (log); expected a number of values: log(a,b,n)",
        ),
        (
            "grid",
            [Leaf("momentum", "uniform")],
            0,
            "sampler 'grid': 'momentum' is continuous (uniform); expected a number of values: uniform(a,b,n)",
        ),
        (
            "grid",
            [Leaf("a", "grid", 1000), Leaf("b", "int", 1001)],
            0,
            "sampler 'grid': the grid has 1001000 points (1000 x 1001); expected at most 1000000",
        ),
        ("random", [], -1, "sampler 'random': seed is -1; expected a whole number from 0 to 2^64 - 1"),
        ("halton", [], 2**64, f"sampler 'halton': seed is {2**64}; expected a whole number from 0 to 2^64 - 1"),
    ],
)
def test_errors(name, leaves, seed, message):
    with pytest.raises(ConfigError) as raised:
        samplers.create(name, leaves, seed)
    assert str(raised.value) == message
