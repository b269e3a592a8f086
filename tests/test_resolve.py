"""From the settings that were given to those that run; lengths, traced scalars, objective, plug-ins."""

import inspect
import math
import sys
import types

import numpy as np
import pytest

from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.losses import METRICS
from hpjax.objective import Evaluation, Objective
from hpjax.registry import Registry
from hpjax.resolve import PARTS, TRACED_PARTS, lengths, resolve, traced

INT32_MAX = 2**31 - 1


def error(**settings: object) -> str:
    """Returns the message with which settings are refused."""
    with pytest.raises(ConfigError) as raised:
        resolve(Config(**settings))
    return str(raised.value)


def steps(train_size: int = 1079, **settings: object):
    return lengths(resolve(Config(**settings)), train_size)


def lengths_error(train_size: int = 1079, **settings: object) -> str:
    with pytest.raises(ConfigError) as raised:
        steps(train_size, **settings)
    return str(raised.value)


def test_defaults_of_every_part_are_filled_in():
    for part, registry in PARTS.items():
        for name in registry.names():
            needed = {"step_size": "1%"} if name == "step" else {}
            config = resolve(Config(**{part: name}, **needed))
            for setting, default in registry.settings(name).items():
                if default is not inspect.Parameter.empty:
                    assert getattr(config, setting) == default, (part, name, setting)


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ({}, {"learning_rate": 0.1, "micro_batch_size": 128, "data_seed": 0, "beta1": None, "channels": None}),
        ({"optimizer": "adamw"}, {"learning_rate": 1e-3, "momentum": None, "beta2": 0.999}),
        ({"learning_rate": 0.3, "momentum": 0.0}, {"learning_rate": 0.3, "momentum": 0.0}),
        ({"seed": 7}, {"data_seed": 7}),
        ({"seed": 7, "data_seed": 0}, {"data_seed": 0}),
        ({"batch_size": 6, "micro_batch_size": 2}, {"micro_batch_size": 2}),
        ({"train_steps": "3epochs"}, {"schedule_steps": "3epochs"}),
        ({"eval_every": "7"}, {"checkpoint_every": "7"}),
        ({"eval_every": "7", "checkpoint_every": "9"}, {"checkpoint_every": "9"}),
        ({"hidden_sizes": ()}, {"hidden_sizes": ()}),
    ],
)
def test_defaults_that_follow_other_settings(given, filled):
    config = resolve(Config(**given))
    assert {name: getattr(config, name) for name in filled} == filled
    assert resolve(config) == config


def test_the_data_folder_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("HPJAX_DATA_DIR", "/data")
    assert resolve(Config(dataset="mnist")).data_dir == "/data"
    assert resolve(Config(dataset="mnist", data_dir="/other")).data_dir == "/other"
    assert resolve(Config(dataset="digits")).data_dir is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"optimizer": "adamw", "momentum": 0.9},
            "momentum is not used by optimizer 'adamw'; settings it uses: beta1, beta2, epsilon, weight_decay, l2",
        ),
        ({"channels": (3,)}, "channels is not used by model 'mlp'; settings it uses: hidden_sizes, activation"),
        (
            {"data_dir": "/data"},
            "data_dir is not used by dataset 'digits'; settings it uses: validation_fraction, test_fraction, split_seed",
        ),
        ({"end_factor": 0.0}, "end_factor is not used by schedule 'constant'; settings it uses: none"),
        (
            {"schedule": "cosine", "step_size": "10"},
            "step_size is not used by schedule 'cosine'; settings it uses: end_factor",
        ),
        ({"schedule": "step"}, "step_size is not set; schedule 'step' needs it: give --step_size=VALUE"),
        (
            {"batch_size": 128, "micro_batch_size": 48},
            "micro_batch_size is 48; expected a divisor of batch_size, 128",
        ),
        (
            {"batch_size": 64, "micro_batch_size": 128},
            "micro_batch_size is 128; expected a divisor of batch_size, 64",
        ),
        ({"optimizer": "SGD"}, "optimizer 'SGD' is unknown; known: momentum, adamw, lars"),
        ({"optimizer": "Adam"}, "optimizer 'Adam' is unknown; did you mean 'adamw'? known: momentum, adamw, lars"),
        ({"schedule": "cosin"}, "schedule 'cosin' is unknown; did you mean 'cosine'? known: constant, cosine, step"),
        ({"model": "ccn"}, "model 'ccn' is unknown; did you mean 'cnn'? known: cnn, mlp"),
        ({"dataset": "nmist"}, "dataset 'nmist' is unknown; did you mean 'mnist'? known: digits, mnist"),
        ({"loss": "entropy"}, "loss 'entropy' is unknown; did you mean 'cross_entropy'? known: cross_entropy"),
        (
            {"activation": "rellu"},
            "activation 'rellu' is unknown; did you mean 'relu'? known: none, relu, tanh, gelu, silu",
        ),
    ],
)
def test_refused_settings(settings, message):
    assert error(**settings) == message


# Lengths


def test_lengths_in_steps():
    found, notes = steps(
        batch_size=64,
        train_steps="10epochs",
        warmup="10%",
        schedule="step",
        step_size="0.25%",
        eval_every="1epochs",
        log_every="640examples",
        checkpoint_every="50%",
    )
    # 10 * 1079 / 64 = 168.6, 10 % of 169 is 16.9, 0.25 % is 0.4, 1079 / 64 = 16.9, half of 169 is 84.5.
    assert found == (169, 17, 169, 1, 17, 10, 85)
    assert notes == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1080}, "batch_size is 1080; expected at most the training split's 1079 examples"),
        ({"train_steps": "0"}, "train_steps is 0; expected at least one step"),
        ({"train_steps": "0epochs"}, "train_steps is 0epochs; expected at least one step"),
        (
            {"train_steps": "10%"},
            "train_steps: '10%': a share needs something to be a share of; expected steps, epochs or examples",
        ),
        ({"train_steps": "20", "warmup": "21"}, "warmup is 21, 21 steps; expected at most the schedule's 20 steps"),
        (
            {"train_steps": "20", "warmup": "1epochs", "batch_size": 32},
            "warmup is 1epochs, 34 steps; expected at most the schedule's 20 steps",
        ),
        ({"train_steps": "20", "schedule_steps": "0"}, "schedule_steps is 0; expected at least one step"),
        ({"train_steps": "20", "schedule": "step", "step_size": "0"}, "step_size is 0; expected at least one step"),
        ({"eval_every": "0"}, "eval_every is 0; expected at least one step"),
        ({"log_every": "0"}, "log_every is 0; expected at least one step"),
        ({"checkpoint_every": "0%"}, "checkpoint_every is 0%; expected at least one step"),
        (
            {"train_steps": str(2**24), "batch_size": 128},
            "train_steps is 16777216, with batch_size 128 2147483648 examples; expected fewer than 2^31",
        ),
        ({"train_steps": str(10**12)}, "train_steps is 1000000000000, 1000000000000 steps; expected fewer than 2^31"),
        (
            {"train_steps": "20", "schedule_steps": str(2**31)},
            "schedule_steps is 2147483648, 2147483648 steps; expected fewer than 2^31",
        ),
        ({"log_every": str(2**31)}, "log_every is 2147483648, 2147483648 steps; expected fewer than 2^31"),
    ],
)
def test_refused_lengths(settings, message):
    assert lengths_error(**settings) == message


def test_the_longest_run_and_the_largest_batch_that_fit():
    found, _ = steps(train_steps=str(2**24 - 1), batch_size=128)
    assert found.train_steps == 2**24 - 1
    found, _ = steps(train_steps="1epochs", batch_size=1079)
    assert found.train_steps == 1
    # 101 % of 20 is 20.2, which is 20 steps.
    for warmup in ("20", "101%"):
        assert steps(train_steps="20", warmup=warmup)[0].warmup_steps == 20


def test_a_look_later_than_the_end_is_at_the_end():
    found, _ = steps(train_steps="20", eval_every=str(INT32_MAX), log_every="21", checkpoint_every="500%")
    assert (found.eval_every, found.log_every, found.checkpoint_every) == (20, 20, 20)


SCHEDULE = {"schedule": "step", "step_size": "30", "warmup": "10", "schedule_steps": "100"}


@pytest.mark.parametrize(
    ("train_steps", "warmup", "step_size", "stretched"), [(250, 25, 75, "2.5"), (20, 2, 6, "0.2"), (1, 0, 1, "0.01")]
)
def test_a_schedule_of_another_length_is_stretched_and_that_is_said(train_steps, warmup, step_size, stretched):
    found, notes = steps(train_steps=str(train_steps), **SCHEDULE)
    assert (found.warmup_steps, found.schedule_steps, found.step_size) == (warmup, train_steps, step_size)
    assert notes == [
        f"the schedule was written for 100 steps, the run has {train_steps}: warmup and schedule are stretched by "
        f"{stretched} (--norescale_schedule keeps them)"
    ]


def test_a_schedule_of_another_length_can_be_kept_and_that_is_said():
    found, notes = steps(train_steps="250", rescale_schedule=False, **SCHEDULE)
    assert (found.train_steps, found.warmup_steps, found.schedule_steps, found.step_size) == (250, 10, 100, 30)
    assert notes == ["the schedule ends at step 100, the run at step 250"]


def test_shares_are_of_the_length_the_schedule_was_written_for():
    settings = {"schedule": "step", "step_size": "30%", "warmup": "10%", "schedule_steps": "100", "train_steps": "250"}
    kept, _ = steps(rescale_schedule=False, **settings)
    assert (kept.warmup_steps, kept.step_size) == (10, 30)
    stretched, _ = steps(**settings)
    assert (stretched.warmup_steps, stretched.step_size) == (25, 75)


def test_the_same_length_in_other_words_is_not_stretched():
    found, notes = steps(train_steps="17", schedule_steps="1epochs", batch_size=64)
    assert (found.schedule_steps, notes) == (17, [])


# Traced scalars

INT32 = {"train_steps", "log_every", "accumulation", "schedule", "schedule_steps", "warmup_steps", "step_size"}
UINT32 = {"seed", "data_seed"}


def scalars(**settings: object) -> dict[str, np.generic]:
    config = resolve(Config(**settings))
    return traced(config, lengths(config, 1079)[0])


def test_traced_covers_every_setting_of_every_registered_part():
    values = scalars()
    wanted = {setting for part in TRACED_PARTS for name in PARTS[part].names() for setting in PARTS[part].settings(name)}
    assert {"momentum", "beta1", "end_factor", "step_size", "label_smoothing", "trust_coefficient"} <= wanted
    assert wanted | INT32 | UINT32 <= values.keys()
    for name, value in values.items():
        assert value.shape == ()
        assert value.dtype == (np.int32 if name in INT32 else np.uint32 if name in UINT32 else np.float32), name


@pytest.mark.parametrize("part", TRACED_PARTS)
def test_lanes_with_other_parts_have_the_same_structure(part):
    expected = {name: value.dtype for name, value in scalars().items()}
    for name in PARTS[part].names():
        needed = {"step_size": "1%"} if name == "step" else {}
        found = scalars(**{part: name}, **needed)
        assert {name: value.dtype for name, value in found.items()} == expected


def test_traced_values():
    values = scalars(
        batch_size=96,
        micro_batch_size=32,
        train_steps="200",
        warmup="10",
        seed=2**32 - 1,
        data_seed=5,
        optimizer="adamw",
        beta1=0.8,
        learning_rate=0.3,
        dropout_rate=0.2,
        label_smoothing=0.1,
        clip_norm=2.0,
        schedule="step",
        step_size="50",
        gamma=0.5,
        log_every="7",
    )
    expected = {
        "accumulation": 3,
        "train_steps": 200,
        "schedule_steps": 200,
        "warmup_steps": 10,
        "seed": 2**32 - 1,
        "data_seed": 5,
        "beta1": np.float32(0.8),
        "beta2": np.float32(0.999),
        "learning_rate": np.float32(0.3),
        "dropout_rate": np.float32(0.2),
        "label_smoothing": np.float32(0.1),
        "clip_norm": 2.0,
        "schedule": PARTS["schedule"].names().index("step"),
        "step_size": 50,
        "gamma": 0.5,
        "log_every": 7,
    }
    assert {name: values[name] for name in expected} == expected
    assert scalars()["clip_norm"] == np.inf


def test_step_sizes_beyond_int32_never_drop():
    found, _ = steps(train_steps="1000", schedule="step", schedule_steps="1000000", warmup="0", step_size=str(INT32_MAX))
    assert found.step_size == round(INT32_MAX / 1000)
    found, _ = steps(train_steps="1000", schedule="step", schedule_steps="10", step_size=str(INT32_MAX))
    assert found.step_size == INT32_MAX


# The objective


def objective(text: str = "val/accuracy:max", value: str = "best") -> Objective:
    return Objective.parse(text, value, METRICS.names())


def evaluations(*values: float) -> list[Evaluation]:
    return [Evaluation(10 * (i + 1), value) for i, value in enumerate(values)]


def test_objective_parsed():
    assert objective() == Objective("val/accuracy", True, "best")
    assert objective("train/loss:min", "last") == Objective("train/loss", False, "last")


KNOWN_OBJECTIVES = "expected one of val/loss, val/accuracy, train/loss, train/accuracy"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val/acuracy:max", f"objective is 'val/acuracy:max'; did you mean 'val/accuracy'? {KNOWN_OBJECTIVES}"),
        ("xyz:max", f"objective is 'xyz:max'; {KNOWN_OBJECTIVES}"),
        ("", f"objective is ''; {KNOWN_OBJECTIVES}"),
        ("val/loss", "objective is 'val/loss'; expected val/loss:max or val/loss:min"),
        ("val/loss:low", "objective is 'val/loss:low'; expected val/loss:max or val/loss:min"),
        ("val/loss:min:max", "objective is 'val/loss:min:max'; expected val/loss:max or val/loss:min"),
        ("test/accuracy:max", "objective is 'test/accuracy:max'; expected a val metric: test is read once, at the end"),
    ],
)
def test_objective_refused(text, message):
    assert error(objective=text) == message


NAN = math.nan


@pytest.mark.parametrize(
    ("values", "best_max", "best_min"),
    [
        ([0.5], 10, 10),
        ([0.5, 0.7, 0.6], 20, 10),
        ([0.7, 0.7, 0.7], 10, 10),  # of equal ones the first
        ([0.5, 0.7, 0.7, 0.5], 20, 10),
        ([NAN, 0.5, NAN, 0.4], 20, 40),
        ([NAN, -5.0], 20, 20),
        ([NAN, NAN], 10, 10),
        ([1.0, math.inf, -math.inf], 20, 30),
    ],
)
def test_best_evaluation(values, best_max, best_min):
    assert objective("val/accuracy:max").best(evaluations(*values)).tick == best_max
    assert objective("val/loss:min").best(evaluations(*values)).tick == best_min


@pytest.mark.parametrize(
    ("value", "values", "of_run", "chosen"),
    [
        ("best", [0.5, 0.75, 0.25], 0.75, 20),
        ("last", [0.5, 0.75, 0.25], 0.25, 30),
        ("smoothed", [0.5, 0.75, 0.25], 0.5, 30),
        ("smoothed", [100.0, 1.0, 2.0, 3.0, 4.0, 5.0], 3.0, 60),  # of the last five
        ("best", [0.5, NAN], 0.5, 10),
        ("last", [0.5, NAN], NAN, 20),
        ("smoothed", [0.5, NAN], NAN, 20),
        ("best", [NAN, NAN], NAN, 10),
        ("best", [], NAN, None),
        ("last", [], NAN, None),
        ("smoothed", [], NAN, None),
    ],
)
def test_objective_of_a_run(value, values, of_run, chosen):
    ours = objective(value=value)
    assert ours.of_run(evaluations(*values)) == pytest.approx(of_run, abs=0, nan_ok=True)
    assert ours.chosen_tick(evaluations(*values)) == chosen


def test_no_evaluation_has_no_best():
    assert objective().best([]) is None


@pytest.mark.parametrize(("text", "sign"), [("val/accuracy:max", 1), ("val/loss:min", -1)])
def test_score(text, sign):
    assert objective(text).score(0.25) == sign * 0.25
    assert objective(text).score(NAN) == -math.inf


# Plug-ins


@pytest.fixture
def plugin(monkeypatch):
    """A module 'my_parts' for the time of a test, whose parts the registries forget afterwards."""
    module = types.ModuleType("my_parts")
    monkeypatch.setitem(sys.modules, "my_parts", module)
    for registry in PARTS.values():
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    return module


def test_a_plugin_is_found_and_its_defaults_filled_in(plugin):
    plugin.net = lambda outputs, *, hidden_sizes=(3,), dropout_rate=0.5: None
    config = resolve(Config(model="my_parts:net"))
    assert config.hidden_sizes == (3,)
    assert config.dropout_rate == 0.0
    assert resolve(config) == config
    # Its settings that always have a value are not refused with another model.
    assert resolve(Config(model="mlp")).hidden_sizes == (128, 128)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such:net", "model 'no_such:net': cannot import module 'no_such': No module named 'no_such'"),
        ("my_parts:nt", "model 'my_parts:nt': module 'my_parts' has no 'nt'; did you mean 'net'?"),
        ("my_parts:", "model 'my_parts:' is no plug-in; expected package.module:name"),
        (":net", "model ':net' is no plug-in; expected package.module:name"),
        (".x:net", "model '.x:net' is no plug-in; expected package.module:name"),
        ("my_parts:number", "model 'my_parts:number' is 7; expected a function with a signature"),
        ("my_parts:net", "model 'my_parts:net' takes 'hiden_sizes', which is no setting; did you mean 'hidden_sizes'?"),
    ],
)
def test_refused_plugins(name, message, plugin):
    plugin.net = lambda outputs, *, hiden_sizes: None
    plugin.number = 7
    assert error(model=name) == message
    # It has left no trace in the registry.
    assert resolve(Config()).hidden_sizes == (128, 128)


def test_an_optimizer_without_a_default_learning_rate_needs_one(plugin):
    plugin.descent = lambda learning_rate: None
    plugin.other = lambda rate=0.1: None
    for name in ("my_parts:descent", "my_parts:other"):
        assert error(optimizer=name) == (
            f"learning_rate is not set; optimizer '{name}' needs it: give --learning_rate=VALUE"
        )
        assert resolve(Config(optimizer=name, learning_rate=0.2)).learning_rate == 0.2


def test_a_name_is_registered_once():
    registry = Registry("colour")

    def red():
        pass

    assert registry.register(red) is red
    with pytest.raises(ValueError, match=r"^colour 'red' is registered twice$"):
        registry.register(red)
    assert (registry.names(), registry.index("red")) == (("red",), 0)
    with pytest.raises(ConfigError, match=r"^colour 'rad' is unknown; did you mean 'red'\? known: red$"):
        registry.index("rad")
