"""Sampled coordinates: values at the ends and between, their way back, and the distributions that they have."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.study.space import Leaf, Space

BELOW_1 = math.nextafter(1, 0)
places = st.floats(0, 1, exclude_max=True)
positive = st.floats(1e-30, 1e30)
finite = st.floats(-1e30, 1e30)


def leaf(text: str, name: str = "learning_rate") -> Leaf:
    (found,) = Space.parse([f"{name}={text}"], Config()).leaves
    return found


@pytest.mark.parametrize(
    ("text", "name", "kind", "low", "high", "count", "values"),
    [
        ("log(1e-4,1)", "learning_rate", "log", 1e-4, 1.0, None, ()),
        ("log(1e-4,1,5)", "learning_rate", "log", 1e-4, 1.0, 5, ()),
        ("uniform(0.1,0.3)", "learning_rate", "uniform", 0.1, 0.3, None, ()),
        ("uniform(0.1,0.3,3)", "learning_rate", "uniform", 0.1, 0.3, 3, ()),
        ("uniform(0,1)", "momentum", "uniform", 0.0, 1.0, None, ()),
        ("int(3,5)", "width", "int", 3.0, 5.0, 3, ()),
        ("range(4)", "crop_padding", "int", 0.0, 3.0, 4, ()),
        ("choice(32,64)", "batch_size", "choice", None, None, 2, (32, 64)),
        ("choice(adam,'optax:sgd')", "optimizer", "choice", None, None, 2, ("adam", "optax:sgd")),
        ("grid(0.3,0.1)", "learning_rate", "grid", 0.1, 0.3, 2, (0.3, 0.1)),
    ],
)
def test_what_a_leaf_is(text, name, kind, low, high, count, values):
    found = leaf(text, name)
    assert (found.setting, found.kind, found.low, found.high, found.count, found.values) == (
        name,
        kind,
        low,
        high,
        count,
        values,
    )


@pytest.mark.parametrize(
    ("text", "name", "u", "value"),
    [
        ("log(1e-4,1)", "learning_rate", 0.5, 1e-2),  # the middle of -4 and 0
        ("log(1e-4,1)", "learning_rate", 0.25, 1e-3),
        ("uniform(0.1,0.3)", "learning_rate", 0.75, 0.25),
        ("log(1e-4,1,5)", "learning_rate", 0.39, 1e-3),  # the second of cells of 0.2
        ("log(1e-4,1,5)", "learning_rate", 0.41, 1e-2),
        ("log(16,256,5)", "batch_size", 0.3, 32),
        ("uniform(0.1,0.4,4)", "learning_rate", 0.6, 0.3),
        ("int(3,5)", "width", 0.33, 3),
        ("int(3,5)", "width", 0.34, 4),
        ("int(3,5)", "width", 0.67, 5),
        ("choice(32,64)", "batch_size", 0.5, 64),
        ("grid(0.3,0.1)", "learning_rate", 0.2, 0.3),
    ],
)
def test_hand_worked_values(text, name, u, value):
    assert leaf(text, name).value(u) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("log(1e-4,0.1)", 1e-4, 0.1),
        ("log(3e-5,0.7)", 3e-5, 0.7),
        ("log(1e-4,0.1,7)", 1e-4, 0.1),
        ("uniform(0.1,0.7)", 0.1, 0.7),
        ("uniform(0.1,0.7,7)", 0.1, 0.7),
        ("grid(0.1,0.7)", 0.1, 0.7),
        ("choice(0.1,0.7)", 0.1, 0.7),
    ],
)
def test_the_ends(text, first, last):
    found = leaf(text)
    assert found.value(0) == first
    assert found.value(BELOW_1) == found.value(1) == pytest.approx(last, rel=1e-14)
    assert first <= found.value(0) <= found.value(BELOW_1) <= last


def test_an_upper_end_that_the_setting_cannot_have_is_never_drawn():
    found = leaf("uniform(0,1)", "momentum")
    assert found.value(0.5) == 0.5
    # The float32 just below 1.
    assert found.value(BELOW_1) == float(np.nextafter(np.float32(1), np.float32(0)))


@given(positive, positive, places)
def test_log_stays_in_its_range_and_comes_back(low, high, u):
    assume(low < high)
    found = Leaf("x", "log", low, high)
    value = found.value(u)
    assert low <= value <= high
    # Logarithms up to 70, rounded, over the width of the range.
    width = max(math.log(high) - math.log(low), 1e-16)
    assert found.unit(value) == pytest.approx(u, abs=1e-12 + 1e-13 / width)


@given(finite, finite, places)
def test_uniform_stays_in_its_range_and_comes_back(low, high, u):
    # Above the smallest normal numbers, below which nothing has a fraction.
    assume(high - low > 1e-290)
    found = Leaf("x", "uniform", low, high)
    value = found.value(u)
    assert low <= value <= high
    assert found.unit(value) == pytest.approx(u, abs=1e-12 + 4 * max(abs(low), abs(high)) * 2**-52 / (high - low))


@given(st.integers(-(10**6), 10**6), st.integers(0, 10**6), places)
def test_whole_numbers_come_back_exactly(low, more, u):
    found = Leaf("x", "int", float(low), float(low + more), more + 1)
    value = found.value(u)
    assert isinstance(value, int)
    assert low <= value <= low + more
    assert found.value(found.unit(value)) == value
    assert found.unit(value) == pytest.approx(u, abs=0.5 / (more + 1) + 1e-12)


@given(st.sampled_from(["log", "uniform"]), st.integers(2, 300), places)
def test_evenly_spaced_values_come_back_exactly(kind, count, u):
    found = Leaf("x", kind, 1e-5, 3.0, count)
    value = found.value(u)
    assert found.value(found.unit(value)) == value
    assert found.unit(value) == (min(int(u * count), count - 1) + 0.5) / count


@given(st.lists(st.one_of(st.integers(), st.text(), st.booleans(), st.none()), min_size=1, unique_by=repr), places)
def test_listed_values_come_back_exactly(values, u):
    found = Leaf("x", "choice", None, None, len(values), tuple(values))
    value = found.value(u)
    assert found.value(found.unit(value)) is value


@pytest.mark.parametrize("count", [2, 3, 7, 64])
def test_evenly_spaced_values_are_numpys(count):
    cells = [(index + 0.5) / count for index in range(count)]
    logs, linear = Leaf("x", "log", 1e-4, 2.0, count), Leaf("x", "uniform", -0.3, 2.0, count)
    np.testing.assert_allclose([logs.value(u) for u in cells], np.geomspace(1e-4, 2, count), rtol=1e-13)
    np.testing.assert_allclose([linear.value(u) for u in cells], np.linspace(-0.3, 2, count), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("found", "law"),
    [
        (Leaf("x", "log", 1e-5, 3.0), scipy.stats.loguniform(1e-5, 3)),
        (Leaf("x", "uniform", -2.0, 3.0), scipy.stats.uniform(-2, 5)),
        (Leaf("x", "int", -3.0, 9.0, 13), scipy.stats.randint(-3, 10)),
        (Leaf("x", "grid", 0.0, 4.0, 5, (0, 1, 2, 3, 4)), scipy.stats.randint(0, 5)),
    ],
)
def test_the_distribution_is_scipys(found, law):
    # 13 x 5 x 16 places, the centres of even cells: each value of a discrete leaf is met equally often.
    count = 1040
    values = [found.value((index + 0.5) / count) for index in range(count)]
    if found.count is None:
        assert scipy.stats.kstest(values, law.cdf).statistic <= 0.5 / count + 1e-9
        np.testing.assert_allclose(values, law.ppf((np.arange(count) + 0.5) / count), rtol=1e-12, atol=1e-12)
    else:
        met, times = np.unique(values, return_counts=True)
        np.testing.assert_allclose(times / count, law.pmf(met), rtol=1e-12)
        assert len(met) == found.count


@pytest.mark.parametrize("u", [-1e-9, 1.0000001, math.nan, math.inf])
def test_places_outside_of_the_cube(u):
    with pytest.raises(ValueError, match="a place in the unit cube is"):
        leaf("log(1e-4,1)").value(u)


@pytest.mark.parametrize(
    ("text", "name", "value", "message"),
    [
        ("log(1e-4,1)", "learning_rate", 2, "learning_rate is 2; expected a number in [0.0001, 1]"),
        ("log(1e-4,1)", "learning_rate", "a", "learning_rate is 'a'; expected a number in [0.0001, 1]"),
        ("uniform(0,1)", "momentum", math.nan, "momentum is nan; expected a number in [0, 1]"),
        ("int(3,5)", "width", 6, "width is 6; expected a whole number in [3, 5]"),
        ("int(3,5)", "width", 3.5, "width is 3.5; expected a whole number in [3, 5]"),
        ("int(1,5)", "width", True, "width is true; expected a whole number in [1, 5]"),
        ("log(1,100,3)", "l2", 11, "l2 is 11; expected one of 3 numbers in [1, 100]"),
        ("choice(adam,lion)", "optimizer", "adm", "optimizer is 'adm'; expected one of adam, lion; did you mean 'adam'?"),
        ("choice(0.1,none)", "l2", 0.2, "l2 is 0.2; expected one of 0.1, none"),
    ],
)
def test_values_that_a_leaf_does_not_have(text, name, value, message):
    with pytest.raises(ConfigError) as raised:
        leaf(text, name).unit(value)
    assert str(raised.value) == message
