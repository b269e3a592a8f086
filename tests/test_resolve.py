"""From the settings that were given to those that run; lengths, traced scalars, objective, plug-ins."""

import math
import sys
import types

import numpy as np
import pytest

from hpjax import losses, metrics
from hpjax.config import FIELDS, Config, convert, kind, optional
from hpjax.errors import ConfigError
from hpjax.objective import Evaluation, Objective
from hpjax.ops import ACTIVATIONS
from hpjax.registry import REQUIRED, Registry
from hpjax.resolve import PARTS, TRACED_PARTS, endless, lengths, resolve, traced
from hpjax.settings.fields import choices
from needed import DATASET_OF, choosing


def error(**settings: object) -> str:
    """Returns the message with which settings are refused."""
    with pytest.raises(ConfigError) as raised:
        resolve(Config(**settings))
    return str(raised.value)


def test_defaults_of_every_part_are_filled_in():
    for part, registry in PARTS.items():
        for name in registry.names():
            given = choosing(part, name)
            config = resolve(Config(**given))
            for setting, default in registry.settings(name).items():
                around = part == "optimizer" and registry.is_common(name, setting)
                if around:
                    # Clipping and regularisation that are not given are no part of the program.
                    assert setting in given or getattr(config, setting) is None
                elif default is not REQUIRED and setting not in given:
                    assert getattr(config, setting) == convert(setting, default), (part, name, setting)


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


def used(part: str, name: str) -> str:
    return f"settings it uses: {', '.join(PARTS[part].settings(name))}"


def users(part: str, setting: str) -> str:
    return f"it is for: {', '.join(name for name in PARTS[part].names() if setting in PARTS[part].settings(name))}"


def known(part: str) -> str:
    return f"known: {', '.join(PARTS[part].names())}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"optimizer": "adamw", "momentum": 0.9},
            f"momentum is not used by optimizer 'adamw'; {used('optimizer', 'adamw')}; {users('optimizer', 'momentum')}",
        ),
        (
            {"channels": (3,)},
            f"channels is not used by model 'mlp'; {used('model', 'mlp')}; {users('model', 'channels')}",
        ),
        (
            {"optimizer": "sgd", "moment_dtype": "bfloat16"},
            f"moment_dtype is not used by optimizer 'sgd'; {used('optimizer', 'sgd')}; "
            "it is for: adamw, adam, momentum, nesterov, lars, lamb",
        ),
        (
            {"optimizer": "adamw", "moment_dtype": "float16"},
            "moment_dtype is 'float16'; expected one of float32, bfloat16; did you mean 'bfloat16'?",
        ),
        (
            {"data_dir": "/data"},
            "data_dir is not used by dataset 'digits'; settings it uses: validation_fraction, test_fraction, split_seed; "
            f"{users('dataset', 'data_dir')}",
        ),
        (
            {"end_factor": 0.0},
            "end_factor is not used by schedule 'constant'; settings it uses: start_factor; "
            f"{users('schedule', 'end_factor')}",
        ),
        (
            {"schedule": "cosine", "step_size": "10"},
            f"step_size is not used by schedule 'cosine'; settings it uses: end_factor; {users('schedule', 'step_size')}",
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
        *(
            ({part: wrong}, f"{part} '{wrong}' is unknown; did you mean '{right}'? {known(part)}")
            for part, wrong, right in (
                ("optimizer", "SGD", "sgd"),
                ("optimizer", "Adam", "adam"),
                ("schedule", "cosin", "cosine"),
                ("model", "ccn", "cnn"),
                ("dataset", "nmist", "mnist"),
                ("loss", "cross_entrpy", "cross_entropy"),
            )
        ),
        ({"augment": ("flp",)}, f"augmentation 'flp' is unknown; did you mean 'flip'? {known('augment')}"),
        ({"model": "xyz"}, f"model 'xyz' is unknown; {known('model')}"),
        (
            {"activation": "rellu"},
            f"activation 'rellu' is unknown; did you mean 'relu'? known: {', '.join(ACTIVATIONS)}",
        ),
    ],
)
def test_refused_settings(settings, message):
    assert error(**settings) == message


# Traced scalars

INT32 = {"train_steps", "log_every", "accumulation", "first_accumulation", "fold", "schedule_ints"}
UINT32 = {"seed", "data_seed"}


def scalars(**settings: object) -> dict[str, np.generic]:
    config = resolve(Config(**settings))
    return traced(config, lengths(config, 1079)[0])


def test_traced_covers_every_setting_of_every_registered_part():
    values = scalars()
    wanted = {setting for part in TRACED_PARTS for name in PARTS[part].names() for setting in PARTS[part].traced(name)}
    assert {"momentum", "beta1", "label_smoothing", "trust_coefficient"} <= wanted
    assert wanted | INT32 | UINT32 <= values.keys()
    for name, value in values.items():
        assert (value.shape == ()) == (not name.startswith("schedule_"))
        assert value.dtype == (np.int32 if name in INT32 else np.uint32 if name in UINT32 else np.float32), name


@pytest.mark.parametrize("part", TRACED_PARTS)
def test_lanes_with_other_parts_have_the_same_structure(part):
    expected = {name: value.dtype for name, value in scalars().items()}
    for name in PARTS[part].names():
        found = scalars(**choosing(part, name))
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
        "seed": 2**32 - 1,
        "data_seed": 5,
        "beta1": np.float32(0.8),
        "beta2": np.float32(0.999),
        "learning_rate": np.float32(0.3),
        "dropout_rate": np.float32(0.2),
        "label_smoothing": np.float32(0.1),
        "clip_norm": 2.0,
        "log_every": 7,
    }
    assert {name: values[name] for name in expected} == expected
    assert scalars()["clip_norm"] == np.inf


# The objective

MEASURED = ("val/loss", "val/accuracy", "train/loss", "train/accuracy")


def objective(text: str = "val/accuracy:max", value: str = "best") -> Objective:
    return Objective.parse(text, value, MEASURED)


def evaluations(*values: float) -> list[Evaluation]:
    return [Evaluation(10 * (i + 1), value) for i, value in enumerate(values)]


def test_objective_parsed():
    assert objective() == Objective("val/accuracy", True, "best")
    assert objective("train/loss:min", "last") == Objective("train/loss", False, "last")


KNOWN_OBJECTIVES = f"expected one of {', '.join(MEASURED)}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val/acuracy:max", f"objective is 'val/acuracy:max'; did you mean 'val/accuracy'? {KNOWN_OBJECTIVES}"),
        ("xyz:max", f"objective is 'xyz:max'; {KNOWN_OBJECTIVES}"),
        ("val/loss", "objective is 'val/loss'; expected val/loss:max or val/loss:min"),
        ("val/loss:low", "objective is 'val/loss:low'; expected val/loss:max or val/loss:min"),
        ("val/loss:min:max", "objective is 'val/loss:min:max'; expected val/loss:max or val/loss:min"),
        ("test/accuracy:max", "objective is 'test/accuracy:max'; expected a val metric: test is read once, at the end"),
    ],
)
def test_objective_refused(text, message):
    assert error(objective=text, metrics=("accuracy",)) == message
    with pytest.raises(ConfigError) as raised:
        objective(text)
    assert str(raised.value) == message


def test_the_objective_of_each_task():
    found = {task: resolve(Config(**settings)).objective for task, settings in DATASET_OF.items()}
    assert found == {
        "classification": "val/accuracy:max",
        "regression": "val/loss:min",
        "multilabel": "val/loss:min",
        "language": "val/loss:min",
    }
    assert resolve(Config(metrics=())).objective == "val/loss:min"


def test_the_metric_of_the_objective_is_measured_too():
    config = resolve(Config(metrics=("accuracy",), objective="val/f1_macro:max"))
    assert config.metrics == ("accuracy", "f1_macro")
    assert resolve(config) == config
    # A sum over a split is nothing that a log window could be the mean of; a table is no number.
    assert "objective is 'train/f1_macro:max'; did you mean" in error(objective="train/f1_macro:max")
    assert "objective is 'val/confusion_matrix:max'; expected one of" in error(objective="val/confusion_matrix:max")
    assert error(objective="val/r2:max").startswith("metric 'r2' is not for classification")


@pytest.mark.parametrize("task", DATASET_OF)
def test_metrics_and_losses_are_those_of_the_task(task):
    config = resolve(Config(**DATASET_OF[task]))
    assert config.metrics == metrics.for_task(task)
    assert config.loss == losses.default_for(task)
    for name in metrics.METRICS.names():
        given = {**DATASET_OF[task], "metrics": (name,)}
        if task in metrics.registry.tasks(name):
            assert resolve(Config(**given)).metrics == (name,)
        else:
            assert error(**given).startswith(f"metric '{name}' is not for {task}")


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
        monkeypatch.setattr(registry, "_imported", {})
    return module


BARE = {part: f"my_parts:{part}" for part in ("model", "optimizer", "dataset", "loss", "schedule")}
EVERYWHERE = {
    # Of the trial and the run, whichever parts there are.
    *("mixup_alpha", "ema_decay", "sam_rho", "weight_decay_schedule", "batch_size_schedule", "init_from", "metrics"),
    *("learning_rate", "micro_batch_size", "data_seed", "schedule_steps", "checkpoint_every", "objective", "run_dir"),
    *("early_stopping_patience", "folds", "preset", "base_batch_size", "coordinator_address", "num_processes", "process_id"),
    # Added to every optimizer, one's own included.
    *("weight_decay", "l1", "l2", "clip_value", "clip_layer_norm", "clip_norm"),
}


def some_value(name: str) -> object:
    """Returns a value in the domain of a setting."""
    words = choices(FIELDS[name].metadata["domain"])
    by_kind = {bool: True, int: 3, float: -0.5 if name == "beta2_decay" else 0.5, str: "mine"}
    return words[-1] if words else by_kind.get(kind(name), "7")


def test_settings_that_every_run_uses():
    assert {name for name in FIELDS if optional(name)} >= EVERYWHERE


@pytest.mark.parametrize("name", [name for name in FIELDS if optional(name) and name not in (*EVERYWHERE, *PARTS)])
def test_a_setting_that_no_part_uses_is_refused(name, plugin):
    plugin.model = lambda outputs: None
    plugin.optimizer = lambda learning_rate=0.1: None
    plugin.dataset = lambda: None
    plugin.loss = lambda outputs, targets: None
    plugin.schedule = lambda step, total_steps: 1.0
    resolve(Config(**BARE))
    assert error(**BARE, **{name: some_value(name)}).startswith(f"{name} is not used by ")


def test_early_stopping_without_patience_is_refused():
    for name, value in (("early_stopping_min_delta", 0.1), ("early_stopping_min_steps", "10")):
        assert error(**{name: value}) == f"{name} is {value}, but no early_stopping_patience is set: give both or neither"
        assert getattr(resolve(Config(**{name: value}, early_stopping_patience=2)), name) == value


def test_a_flag_that_the_schedules_text_overrides_is_refused():
    text = "linear(start_factor=0.5):5, cosine(end_factor=0.2)"
    assert error(schedule=text, start_factor=0.25) == (
        "start_factor is 0.25, but the schedule's text says 0.5; expected it in one place"
    )
    # Where one part of the text leaves it to the flag it is used.
    config = resolve(Config(schedule=text, end_factor=0.3))
    assert "linear(start_factor=0.5,end_factor=0.3)" in config.schedule
    assert resolve(config) == config


def test_a_plugin_is_found_and_its_defaults_filled_in(plugin):
    plugin.net = lambda outputs, *, hidden_sizes=(3,), dropout_rate=0.5: None
    config = resolve(Config(model="my_parts:net"))
    assert config.hidden_sizes == (3,)
    assert config.dropout_rate == 0.5
    assert resolve(config) == config
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
        (
            "my_parts:net",
            "model 'my_parts:net' takes 'hiden_sizes', which is no flag; expected a default that is a number, "
            "true, false or a text; did you mean 'hidden_sizes'?",
        ),
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


def test_the_shape_of_no_warmup_is_the_default():
    """A trial's warmup may be of length 0 beside others; its flagfile must not hold what a run refuses."""
    config = resolve(Config(warmup="0%", warmup_shape="exponential", warmup_start_factor=0.1))
    assert (config.warmup_shape, config.warmup_start_factor) == ("linear", 0.0)


def test_settings_that_have_their_defaults_are_never_inert():
    for given in ({"model": "cnn", "norm": "none"}, {"optimizer": "nadam", "optax_form": True}):
        config = resolve(Config(**given))
        assert resolve(config) == config


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


@pytest.mark.parametrize("accumulation", [1, 2, 3, 64])
def test_what_is_measured_neither_ends_nor_overflows(accumulation):
    """Its ticks are an int32: 2^30 steps of two ticks each would be none."""
    values = endless({"accumulation": np.int32(accumulation), "train_steps": np.int32(5), "learning_rate": np.float32(1)})
    ticks = values["train_steps"] * np.int32(accumulation)
    assert ticks.dtype == np.int32 and ticks > 10**9 // 2 and values["learning_rate"] == 0
