"""The grid of a space, which leaves a point depends on, and the way back from settings to a point."""

import itertools

import numpy as np
import pytest
from sklearn.model_selection import ParameterGrid

from hpjax.config import Config, StudyConfig
from hpjax.errors import ConfigError
from hpjax.study import once, samplers
from hpjax.study.ask import Asker
from hpjax.study.samplers import SAMPLERS
from hpjax.study.space import REPLICATED, Space

BASE = Config(learning_rate=0.1)


def space(*texts: str) -> Space:
    return Space.parse(texts, BASE)


def grid(made: Space) -> list[dict]:
    assert made.grid_size is not None
    return [made.values(made.grid_point(index)) for index in range(made.grid_size)]


def test_the_grid_is_the_product_and_the_last_leaf_is_the_fastest():
    axes = {
        "learning_rate": [0.3, 0.1, 0.03],
        "batch_size": [32, 128],
        "l2": [0.0, 0.25, 0.5, 0.75, 1.0],
        "width": [4, 5, 6],
        "optimizer": ["adam", "lion"],
    }
    made = space(
        "learning_rate=grid(0.3,0.1,0.03)",
        "batch_size=choice(32,128)",
        "l2=uniform(0,1,5)",
        "width=int(4,6)",
        "optimizer=choice(adam,lion)",
        "seed=range(3)",
    )
    assert made.grid_size == 3 * 2 * 5 * 3 * 2
    found = grid(made)
    assert found == [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    assert sorted(map(repr, found)) == sorted(repr({name: one[name] for name in axes}) for one in ParameterGrid(axes))
    assert list(made.distinct()) == list(range(made.grid_size))


def test_points_of_the_grid_are_the_centres_of_cells():
    made = space("l2=grid(1,2,3,4)", "batch_size=choice(32,64)")
    assert [made.grid_point(index) for index in (0, 1, 7)] == [(0.125, 0.25), (0.125, 0.75), (0.875, 0.75)]


@pytest.mark.parametrize("index", [-1, 4])
def test_points_outside_of_the_grid(index):
    with pytest.raises(IndexError, match=f"point {index} of a grid of 4"):
        space("l2=grid(1,2,3,4)").grid_point(index)


def test_a_continuous_leaf_has_no_grid():
    made = space("l2=grid(1,2)", "momentum=1-log(1e-3,0.5)", "learning_rate=uniform(0.1,1)")
    assert made.grid_size is None
    for call in (made.check_grid, lambda: list(made.distinct()), lambda: made.grid_point(0)):
        with pytest.raises(ConfigError) as raised:
            call()
        assert str(raised.value) == (
            "vary 'momentum=1-log(1e-3,0.5)': log is continuous at character 12; "
            "expected log(low,high,number), a grid's values are counted; or another sampler"
        )


def test_a_grid_of_more_than_a_million_points():
    made = space("width=int(1,1000)", "l2=log(1e-4,1,1000)")
    assert made.check_grid() == 10**6
    made = space("width=int(1,1000)", "l2=log(1e-4,1,1001)")
    assert made.grid_size == 1_001_000
    # Other samplers may draw from it.
    assert made.values((0.0, 0.0)) == {"width": 1, "l2": 1e-4}
    for call in (made.check_grid, lambda: made.grid_point(0)):
        with pytest.raises(ConfigError) as raised:
            call()
        assert str(raised.value) == "vary: the grid has 1001000 points (1000 x 1001); expected at most 1000000"


CONDITIONAL = (
    "optimizer=choice(adam,momentum,lion)",
    "momentum=grid(0.8,0.9,0.95) if optimizer==momentum",
    "beta1=grid(0.8,0.9) if optimizer in (adam,lion) else grid(0.1,0.2,0.3,0.4)",
)


def test_which_leaves_a_point_depends_on():
    made = space(*CONDITIONAL)
    assert [leaf.count for leaf in made.leaves] == [3, 3, 2, 4]
    assert made.active((0.1, 0.5, 0.5, 0.5)) == (True, False, True, False)
    assert made.active((0.5, 0.5, 0.5, 0.5)) == (True, True, False, True)


def test_the_grid_without_doubles():
    made = space(*CONDITIONAL)
    indices = list(made.distinct())
    found = [made.values(made.grid_point(index)) for index in indices]
    # adam and lion with 2 each, momentum with 3 x 4.
    assert len(found) == 2 + 12 + 2
    assert len({repr(one) for one in found}) == len(found)
    assert {repr(one) for one in found} == {repr(one) for one in grid(made)}
    assert list(indices) == sorted(indices)


TEXTS = (
    "weight_decay=learning_rate*log(1e-3,1)",
    "learning_rate=log(1e-4,1)",
    "momentum=1-log(1e-3,0.5) if optimizer==momentum",
    "optimizer=choice(adam,momentum)",
    "batch_size=2**int(4,8)",
    "l2=grid(0.3,0.1)/3",
    "dropout_rate=(0.5-uniform(0.1,0.4))*2 if batch_size<64 else -(-uniform(0,0.9))",
    "l1=uniform(1,2,4)**2",
    "hidden_sizes=choice('64,64',none)",
    "clip_norm=1/log(1,100,5)",
)


def test_from_settings_back_to_the_point(rng):
    made = space(*TEXTS)
    for _ in range(200):
        point = tuple(rng.random(len(made.leaves)))
        values = made.values(point)
        found = made.point(values)
        assert found is not None
        again = made.values(found)
        assert again.keys() == values.keys()
        for name, value in values.items():
            assert again[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)
        for used, leaf, one, other in zip(made.active(point), made.leaves, point, found, strict=True):
            if not used:
                assert other == 0.5
            elif leaf.count is None:
                # 1 - x loses digits of a small x: 1e-3 keeps 13 of 16.
                assert other == pytest.approx(one, abs=1e-12)
            else:
                assert int(other * leaf.count) == int(one * leaf.count)


@pytest.mark.parametrize(
    ("texts", "values", "point"),
    [
        (["learning_rate=log(1e-4,1)"], {"learning_rate": 0.01}, (0.5,)),
        (["learning_rate=log(1e-4,1)"], {"learning_rate": 2.0}, None),
        (["learning_rate=log(1e-4,1)"], {"learning_rate": "a"}, None),
        (["learning_rate=log(1e-4,1)"], {}, None),
        (["learning_rate=log(1e-4,1,5)"], {"learning_rate": 0.01}, (0.5,)),
        (["learning_rate=log(1e-4,1,5)"], {"learning_rate": 0.02}, None),
        (["momentum=1-log(1e-3,0.5)"], {"momentum": 0.5}, (np.nextafter(1, 0),)),
        (["momentum=1-log(1e-3,0.5)"], {"momentum": 0.9999}, None),
        (["l2=uniform(0,1)*uniform(0,1)"], {"l2": 0.25}, None),
        (["l2=learning_rate*2"], {"l2": 0.2}, ()),
        (["l2=learning_rate*2"], {"l2": 0.3}, None),
        (["batch_size=2**int(4,8)"], {"batch_size": 64}, (0.5,)),
        (["batch_size=2**int(4,8)"], {"batch_size": 65}, None),
        (["optimizer=choice(adam,lion)"], {"optimizer": "sgd"}, None),
        (["l2=uniform(0,1) if optimizer==lion", "optimizer=choice(adam,lion)"], {"optimizer": "adam"}, (0.5, 0.25)),
        (["l2=uniform(0,1) if optimizer==lion", "optimizer=choice(adam,lion)"], {"optimizer": "lion"}, None),
        (["l2=uniform(0,1) if optimizer==lion", "optimizer=choice(adam,lion)"], {"optimizer": "adam", "l2": 0.5}, None),
        (["l2=1/uniform(0.1,1)"], {"l2": 0.0}, None),
    ],
)
def test_points_of_given_settings(texts, values, point):
    found = space(*texts).point(values)
    assert found == (None if point is None else pytest.approx(point, rel=1e-12))


def asked(*texts: str, enqueued: tuple[dict, ...] = (), tried: tuple[dict, ...] = (), **settings) -> list[dict]:
    """The settings that a study tries, after those that were tried before."""
    made, study = space(*texts), StudyConfig(vary=texts, **settings)
    sampler = samplers.create(study.sampler, made.leaves, study.sampler_seed)
    asker = Asker(made, once.of(sampler, made, study, BASE, enqueued, tried), study.trials, enqueued)
    found, number = [], len(tried) * len(made.replicas)
    while records := asker.next(number):
        found.append({name: value for name, value in records[0].values.items() if name not in REPLICATED})
        number += len(records)
    return found


SGD_OR_MOMENTUM = ("optimizer=choice(sgd,momentum)", "momentum=grid(0.5,0.8,0.9) if optimizer==momentum")
FOUR = [{"optimizer": "sgd"}, *({"optimizer": "momentum", "momentum": one} for one in (0.5, 0.8, 0.9))]


def test_a_grid_with_a_condition_runs_each_setting_once():
    assert asked(*SGD_OR_MOMENTUM, sampler="grid") == FOUR
    assert asked("l2=choice(0.1,0.2)*choice(1,2)", sampler="grid") == [{"l2": 0.1}, {"l2": 0.2}, {"l2": 0.4}]


@pytest.mark.parametrize("sampler", ["grid", "halton"])
def test_an_enqueued_point_of_the_grid_is_not_run_again(sampler):
    # The momentum that is not given is the optimizer's own, 0.9; 0.7 lies beside the grid.
    first = ({"optimizer": "momentum"}, {"optimizer": "sgd"}, {"optimizer": "momentum", "momentum": 0.7})
    assert asked(*SGD_OR_MOMENTUM, sampler=sampler, enqueued=first) == [*first, FOUR[1], FOUR[2]]


@pytest.mark.parametrize("sampler", SAMPLERS.names())
@pytest.mark.parametrize(
    ("texts", "trials", "settings"),
    [
        (SGD_OR_MOMENTUM, 64, FOUR),
        (SGD_OR_MOMENTUM, 4, FOUR),
        ((*SGD_OR_MOMENTUM, "seed=range(3)"), 12, FOUR),
        (("learning_rate=choice(0.01,0.1)",), 8, [{"learning_rate": 0.01}, {"learning_rate": 0.1}]),
        (("seed=range(4)",), 16, [{}]),
    ],
)
def test_a_space_that_ends_is_tried_once_whatever_the_sampler(sampler, texts, trials, settings):
    assert asked(*texts, sampler=sampler, trials=trials) == settings


def test_a_space_of_more_settings_than_trials_is_the_samplers():
    made = space("l2=choice(0.1,0.2,0.3)")
    sampler = samplers.create("halton", made.leaves, 0)
    assert once.of(sampler, made, StudyConfig(trials=2), BASE, ()) is sampler
    assert once.of(sampler, space("l2=log(1e-3,1)"), StudyConfig(trials=2), BASE, ()) is sampler


def test_a_longer_study_tries_what_is_left():
    texts = ("learning_rate=choice(0.01,0.1,1)", "l2=grid(0,0.1)")
    all_six = asked(*texts, sampler="grid")
    for sampler in SAMPLERS.names():
        longer = asked(*texts, sampler=sampler, trials=9, tried=(all_six[4], {"learning_rate": 0.1, "l2": 0.1}))
        assert longer == [one for i, one in enumerate(all_six) if i not in (3, 4)]
        assert asked(*texts, sampler=sampler, trials=16, tried=tuple(all_six)) == []


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_grid_cut_short_is_spread_over_the_whole(seed):
    text = "learning_rate=log(1e-4,1,100)"
    values = [one["learning_rate"] for one in asked(text, sampler="grid", trials=100)]
    cut = [values.index(one["learning_rate"]) for one in asked(text, sampler="grid", trials=8, sampler_seed=seed)]
    # One in each eighth of the grid.
    assert sorted(index * 8 // 100 for index in cut) == list(range(8))
    more = [values.index(one["learning_rate"]) for one in asked(text, sampler="grid", trials=99, sampler_seed=seed)]
    assert more[:8] == cut
    assert len(set(more)) == 99
    left = asked(text, sampler="grid", trials=100, tried=tuple({"learning_rate": values[index]} for index in cut))
    assert sorted([*cut, *(values.index(one["learning_rate"]) for one in left)]) == list(range(100))


def test_a_cut_grid_of_several_axes_has_no_setting_twice():
    texts = (*SGD_OR_MOMENTUM, "l2=uniform(0,1,8)", "l1=uniform(0,1,8)")
    found = asked(*texts, sampler="grid", trials=250)
    assert len({repr(one) for one in found}) == 250
    first = found[:64]
    assert first == asked(*texts, sampler="grid", trials=64)
    for name in ("l1", "l2"):
        assert {round(one[name] * 7) for one in first} == set(range(8))
    assert {one["optimizer"] for one in first[:4]} == {"sgd", "momentum"}


def test_counting_does_not_look_at_every_double():
    """A million points, most of them one setting."""
    made = space("optimizer=choice(sgd,momentum)", "momentum=uniform(0,0.9,500000) if optimizer==momentum")
    assert list(itertools.islice(made.distinct(), 3)) == [0, 500000, 500001]


def test_the_edge_of_what_was_tried():
    made = space("learning_rate=log(1e-4,1,100)", "optimizer=choice(adam,lion)")
    tried = [{"learning_rate": rate, "optimizer": "adam"} for rate in (1e-3, 1e-2, 1e-1)]
    assert [made.edges(one, tried) for one in tried] == [["learning_rate (lowest)"], [], ["learning_rate (highest)"]]
    assert made.edges(tried[0], tried[:1]) == made.edges(tried[0]) == []
