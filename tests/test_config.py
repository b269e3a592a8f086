"""The settings: conversion, domains, the round trip through text."""

import dataclasses
import math
import typing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpjax import config as config_lib
from hpjax.config import FIELDS, Config, convert, kind, optional, to_text
from hpjax.errors import ConfigError
from hpjax.settings.fields import Length, choices

FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_MIN = float(np.finfo(np.float32).tiny)
COUNTED = ("devices", "lane_width")


def values(name: str) -> st.SearchStrategy:
    """Returns what a setting may be."""
    domain = FIELDS[name].metadata["domain"]
    # A text that begins and ends with a space is refused, and so is a control character.
    words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Z")), min_size=1)
    counts = st.integers(1, 2**31 - 1)
    strategies = {
        bool: st.booleans(),
        int: st.sampled_from([0, 1, 2**31 - 1, 2**32 - 1]) | st.integers(0, 300),
        float: st.floats(-FLOAT32_MAX, FLOAT32_MAX) | st.floats(0, 1),
        Length: st.builds("{}{}".format, st.integers(0, 10**12), st.sampled_from(["", "steps", "epochs", "examples", "%"])),
        str: st.just("auto") | counts.map(str) if name in COUNTED else words,
        # In a list a comma separates, and `none` is the empty one.
        (str,): st.text("abcxyz019_.=|*()", min_size=1, max_size=9).filter(lambda text: text != "none"),
    }
    if typing.get_origin(kind(name)) is tuple:
        of = typing.get_args(kind(name))[0]
        strategy = st.lists(strategies[(str,)] if of is str else strategies[of], max_size=4).map(tuple)
    else:
        strategy = strategies[kind(name)]
    if choices(domain):
        strategy = st.sampled_from(choices(domain))
    elif domain is not None:
        strategy = strategy.filter(domain[0])
    return st.none() | strategy if optional(name) else strategy


@pytest.mark.parametrize("name", FIELDS)
@settings(deadline=None)
@given(data=st.data())
def test_text_gives_the_value_back(name, data):
    value = data.draw(values(name))
    again = convert(name, "" if value is None else to_text(name, value))
    assert again == value
    assert type(again) is type(value)
    assert convert(name, value) == value


def test_the_default_config_is_its_own_conversion():
    for name, field in FIELDS.items():
        assert getattr(Config(), name) == field.default


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("learning_rate", "1e-3", 1e-3),
        ("learning_rate", 1, 1.0),
        ("learning_rate", np.float32(0.5), 0.5),
        ("learning_rate", "", None),
        ("learning_rate", None, None),
        ("learning_rate", FLOAT32_MAX, FLOAT32_MAX),
        ("learning_rate", FLOAT32_MIN, FLOAT32_MIN),
        ("dropout_rate", 0, 0.0),
        ("batch_size", "64", 64),
        ("batch_size", 64.0, 64),
        ("batch_size", np.int64(64), 64),
        ("seed", 2**32 - 1, 2**32 - 1),
        ("hidden_sizes", "128,64", (128, 64)),
        ("hidden_sizes", "16, 8", (16, 8)),
        ("hidden_sizes", [16, np.int32(8)], (16, 8)),
        ("hidden_sizes", "none", ()),
        ("hidden_sizes", (), ()),
        ("hidden_sizes", "", None),
        ("train_steps", 500, "500"),
        ("train_steps", np.int64(500), "500"),
        ("train_steps", "3epochs", "3epochs"),
        ("devices", 4, "4"),
        ("resume", "False", False),
        ("resume", "yes", True),
        ("resume", "0", False),
        ("run_dir", Path("runs") / "mine", "runs/mine"),
    ],
)
def test_conversion(name, given, value):
    converted = getattr(Config(**{name: given}), name)
    assert converted == value
    assert type(converted) is type(value)


POSITIVE_TEXT = "expected a finite number > 0 (float32: 1.2e-38 to 3.4e38)"
SIZES_TEXT = "expected whole numbers, separated by commas, or none"
NOT_A_LENGTH = "is no length; expected for example 500, 500steps, 3epochs, 40000examples or 10%"
LENGTH_TEXT = "expected a length: 500, 500steps, 3epochs, 40000examples or 10%"
TEXT_TEXT = "expected a text of one line, no space at its ends"


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        *(("learning_rate", v, f"learning_rate is {v!r}; {POSITIVE_TEXT}") for v in (0, -0.1, math.nan, math.inf, "nan")),
        # What float32 turns into infinity or flushes to 0.
        *(("learning_rate", v, f"learning_rate is {v!r}; {POSITIVE_TEXT}") for v in (3.5e38, "1e-39", 5e-324)),
        ("learning_rate", True, "learning_rate is True; expected a number"),
        ("learning_rate", "fast", "learning_rate is 'fast'; expected a number"),
        ("learning_rate", (1,), "learning_rate is (1,); expected a number"),
        ("weight_decay", "-1e-9", "weight_decay is '-1e-9'; expected a finite number >= 0 (float32: at most 3.4e38)"),
        ("weight_decay", math.inf, "weight_decay is inf; expected a finite number >= 0 (float32: at most 3.4e38)"),
        ("dropout_rate", 1, "dropout_rate is 1; expected a number in [0, 1), as float32"),
        ("dropout_rate", -0.1, "dropout_rate is -0.1; expected a number in [0, 1), as float32"),
        ("dropout_rate", math.nan, "dropout_rate is nan; expected a number in [0, 1), as float32"),
        ("beta2", 1 - 1e-9, "beta2 is 0.999999999; expected a number in [0, 1), as float32"),
        ("warmup_start_factor", None, "warmup_start_factor is None; expected a number"),
        ("batch_size", 0, "batch_size is 0; expected a whole number in [1, 2^31)"),
        ("batch_size", 2**31, "batch_size is 2147483648; expected a whole number in [1, 2^31)"),
        ("batch_size", True, "batch_size is True; expected a whole number"),
        ("batch_size", 1.5, "batch_size is 1.5; expected a whole number"),
        ("batch_size", "1.5", "batch_size is '1.5'; expected a whole number"),
        ("batch_size", math.inf, "batch_size is inf; expected a whole number"),
        ("batch_size", math.nan, "batch_size is nan; expected a whole number"),
        ("input_workers", 1000, "input_workers is 1000; expected a whole number in [0, 256]"),
        ("seed", -1, "seed is -1; expected a whole number in [0, 2^32)"),
        ("seed", 2**32, "seed is 4294967296; expected a whole number in [0, 2^32)"),
        ("hidden_sizes", 16, f"hidden_sizes is 16; {SIZES_TEXT}"),
        ("hidden_sizes", "16,", f"hidden_sizes is '16,'; {SIZES_TEXT}"),
        ("hidden_sizes", "16;8", f"hidden_sizes is '16;8'; {SIZES_TEXT}"),
        ("hidden_sizes", (16, 2.5), f"hidden_sizes is (16, 2.5); {SIZES_TEXT}"),
        ("hidden_sizes", "16,0", "hidden_sizes is '16,0'; expected whole numbers >= 1, separated by commas, or none"),
        ("train_steps", "3 weeks", "train_steps: '3 weeks': unit 'weeks' is unknown; known: steps, epochs, examples, %"),
        ("train_steps", "-5", f"train_steps: '-5' {NOT_A_LENGTH}"),
        ("train_steps", 1.5, f"train_steps is 1.5; {LENGTH_TEXT}"),
        ("train_steps", True, f"train_steps is True; {LENGTH_TEXT}"),
        ("devices", 0, "devices is 0; expected auto or a whole number >= 1"),
        ("devices", "-1", "devices is '-1'; expected auto or a whole number >= 1"),
        ("parallel", "pmp", "parallel is 'pmp'; expected one of shard_map, pmap; did you mean 'pmap'?"),
        ("parallel", "PMAP", "parallel is 'PMAP'; expected one of shard_map, pmap; did you mean 'pmap'?"),
        ("objective_value", "mean", "objective_value is 'mean'; expected one of best, last, smoothed"),
        ("resume", 1, "resume is 1; expected true or false"),
        ("resume", "maybe", "resume is 'maybe'; expected true or false"),
        ("model", True, f"model is True; {TEXT_TEXT}"),
        ("model", 1.5, f"model is 1.5; {TEXT_TEXT}"),
        ("data_dir", "a\nb", f"data_dir is 'a\\nb'; {TEXT_TEXT}"),
        ("data_dir", "/data ", f"data_dir is '/data '; {TEXT_TEXT}"),
        ("data_dir", "/d\udcff", f"data_dir is '/d\\udcff'; {TEXT_TEXT}"),
    ],
)
def test_refused_values(name, given, message):
    with pytest.raises(ConfigError) as raised:
        Config(**{name: given})
    assert str(raised.value) == message


@settings(deadline=None)
@given(st.floats())
def test_whatever_passes_for_a_learning_rate_is_positive_and_finite_as_float32(rate):
    try:
        accepted = np.float32(convert("learning_rate", rate))
    except ConfigError:
        assert not FLOAT32_MIN <= rate <= FLOAT32_MAX
    else:
        assert 0 < accepted < np.inf


@settings(deadline=None)
@given(st.floats(0.9, 1.1))
def test_whatever_passes_for_a_fraction_is_below_one_as_float32(fraction):
    try:
        accepted = np.float32(convert("dropout_rate", fraction))
    except ConfigError:
        assert np.float32(fraction) >= 1
    else:
        assert accepted < 1


BEYOND = [-1, 0, 1, 2, 2**31, 2**32, 0.5, 1.5, -0.5, -2.0, math.nan, math.inf, -math.inf, 3.5e38]
NUMERIC = [name for name in FIELDS if FIELDS[name].metadata["domain"] is not None and kind(name) in (int, float)]


@pytest.mark.parametrize("name", NUMERIC)
def test_every_number_out_of_its_domain_is_refused_by_name_and_domain(name):
    allowed, text = FIELDS[name].metadata["domain"]
    numbers = [value for value in BEYOND if kind(name) is float or value in (-1, 0, 1, 2, 2**31, 2**32)]
    refused = [value for value in numbers if not allowed(value)]
    assert len(refused) >= 2
    for value in refused:
        for spelt in (value, str(value)):
            with pytest.raises(ConfigError) as raised:
                Config(**{name: spelt})
            assert str(raised.value) == f"{name} is {spelt!r}; expected {text}"
    accepted = [value for value in numbers if allowed(value)]
    assert accepted
    for value in accepted:
        assert getattr(Config(**{name: value}), name) == value


def test_every_number_has_a_domain():
    """But for those that may be any: a number without a domain would let NaN and infinity through."""
    assert [name for name in FIELDS if kind(name) in (int, float) and name not in NUMERIC] == []


def test_replace_changes_and_checks():
    config = Config(batch_size=64)
    assert config.replace(learning_rate="0.5") == Config(batch_size=64, learning_rate=0.5)
    assert config.learning_rate is None
    with pytest.raises(ConfigError, match=r"^seed is -1; "):
        config.replace(seed=-1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lerning_rate", "setting 'lerning_rate' is unknown; did you mean 'learning_rate'?"),
        ("Batch_Size", "setting 'Batch_Size' is unknown; did you mean 'batch_size'?"),
        ("xyz", "setting 'xyz' is unknown"),
    ],
)
def test_replace_suggests_the_nearest_name(name, message):
    with pytest.raises(ConfigError) as raised:
        Config().replace(**{name: 1})
    assert str(raised.value) == message


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1


def test_groups_and_exceptions_name_settings():
    assert set(config_lib.GROUPS) <= set(FIELDS)
    assert set(config_lib.NOT_PART_OF_A_RUN) <= set(FIELDS)
    assert next(iter(FIELDS)) in config_lib.GROUPS
