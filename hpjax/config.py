"""The settings of a run: one typed frozen dataclass, from which the flags are generated."""

import dataclasses
import numbers
import os
import typing
from collections.abc import Callable
from typing import Any

from hpjax import durations
from hpjax.errors import ConfigError, did_you_mean

# A length with a unit ("500", "3epochs"); `durations` explains them.
Length = typing.NewType("Length", str)

Domain = tuple[Callable[[Any], bool], str]
# Traced values are float32: what rounds to 0, 1 or infinity there is out of a domain that excludes it.
_FLOAT32_MIN, _FLOAT32_MAX = 2.0**-126, (2 - 2.0**-23) * 2.0**127
POSITIVE: Domain = (lambda v: _FLOAT32_MIN <= v <= _FLOAT32_MAX, "a finite number > 0 (float32: 1.2e-38 to 3.4e38)")
NOT_NEGATIVE: Domain = (lambda v: 0 <= v <= _FLOAT32_MAX, "a finite number >= 0 (float32: at most 3.4e38)")
FRACTION: Domain = (lambda v: 0 <= v < 1 - 2**-25, "a number in [0, 1), as float32")
AT_LEAST_1: Domain = (lambda v: 1 <= v < 2**31, "a whole number in [1, 2^31)")
SEED: Domain = (lambda v: 0 <= v < 2**32, "a whole number in [0, 2^32)")
SIZES: Domain = (lambda v: all(1 <= size < 2**31 for size in v), "whole numbers >= 1, separated by commas, or none")


def _choice(*names: str) -> Domain:
    return (lambda v: v in names, "one of " + ", ".join(names))


def _counted(*words: str) -> Domain:
    return (lambda v: v in words or (v.isdecimal() and int(v) >= 1), f"{' or '.join(words)} or a whole number >= 1")


def _setting(default: Any, help: str, domain: Domain | None = None, *, main: bool = False) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "domain": domain, "main": main})


@dataclasses.dataclass(frozen=True)
class Config:
    """Every setting of a run. None leaves a setting to the part that uses it (`resolve` fills it in).

    Values are converted and checked when a Config is made; what needs the parts or the data is checked by `resolve`.

    Raises:
      ConfigError: a value of the wrong type or out of its domain.
    """

    dataset: str = _setting("digits", "data set: a registered name or package.module:function", main=True)
    data_dir: str | None = _setting(None, "folder of the data set's files (default: $HPJAX_DATA_DIR)", main=True)
    validation_fraction: float | None = _setting(None, "share of the examples held out to choose by", FRACTION)
    test_fraction: float | None = _setting(None, "share of the examples held out to be read once at the end", FRACTION)
    split_seed: int | None = _setting(None, "seed of the stratified split", SEED)

    model: str = _setting("mlp", "model: a registered name or package.module:function", main=True)
    hidden_sizes: tuple[int, ...] | None = _setting(
        None, "units of the hidden dense layers (128,64) or none", SIZES, main=True
    )
    channels: tuple[int, ...] | None = _setting(None, "channels of each convolution", SIZES)
    activation: str | None = _setting(None, "activation after each hidden layer")
    dropout_rate: float = _setting(0.0, "probability that dropout zeroes an activation", FRACTION, main=True)

    optimizer: str = _setting("momentum", "optimizer: a registered name or package.module:function", main=True)
    learning_rate: float | None = _setting(None, "peak learning rate (default: the optimizer's)", POSITIVE, main=True)
    momentum: float | None = _setting(None, "momentum", FRACTION, main=True)
    beta1: float | None = _setting(None, "Adam's decay of the mean of gradients", FRACTION)
    beta2: float | None = _setting(None, "Adam's decay of the mean of squared gradients", FRACTION)
    epsilon: float | None = _setting(None, "added to a denominator", NOT_NEGATIVE)
    weight_decay: float | None = _setting(None, "decoupled weight decay, times the learning rate", NOT_NEGATIVE, main=True)
    l2: float | None = _setting(None, "L2 regularisation, added to the gradient", NOT_NEGATIVE)
    trust_coefficient: float | None = _setting(None, "LARS' eta", POSITIVE)
    clip_norm: float | None = _setting(None, "largest global norm of the gradient (default: not clipped)", POSITIVE)

    schedule: str = _setting("constant", "learning-rate schedule", main=True)
    warmup: Length = _setting(Length("0"), "length of the linear warmup, part of the run", main=True)
    warmup_start_factor: float = _setting(0.0, "where warmup starts, as a factor of the peak", NOT_NEGATIVE)
    schedule_steps: Length | None = _setting(
        None, "length of run that warmup and schedule were written for (default: this run's)"
    )
    rescale_schedule: bool = _setting(True, "stretch warmup and schedule where schedule_steps is not this run's length")
    end_factor: float | None = _setting(None, "where a schedule ends, as a factor of the peak", NOT_NEGATIVE)
    step_size: Length | None = _setting(None, "length between two drops of the step schedule")
    gamma: float | None = _setting(None, "what a drop of the step schedule multiplies by", POSITIVE)

    loss: str = _setting("cross_entropy", "loss: a registered name or package.module:function")
    label_smoothing: float | None = _setting(None, "the uniform distribution's share of the target", FRACTION)
    batch_size: int = _setting(128, "examples an optimizer step", AT_LEAST_1, main=True)
    micro_batch_size: int | None = _setting(
        None, "examples a forward pass; divides batch_size (default: batch_size)", AT_LEAST_1, main=True
    )
    train_steps: Length = _setting(Length("10epochs"), "length of the run: 500, 3epochs, 40000examples", main=True)
    seed: int = _setting(0, "seed of initial parameters and dropout", SEED, main=True)
    data_seed: int | None = _setting(None, "seed of the order of the data (default: seed)", SEED, main=True)

    objective: str = _setting("val/accuracy:max", "split/metric:max or :min that 'best' means", main=True)
    objective_value: str = _setting(
        "best", "value over the run: best, last, or smoothed (mean of the last 5)", _choice("best", "last", "smoothed")
    )
    eval_every: Length = _setting(Length("1epochs"), "length between evaluations", main=True)
    eval_batch_size: int = _setting(512, "examples an evaluation batch", AT_LEAST_1)
    log_every: Length = _setting(Length("50"), "length between log points", main=True)
    checkpoint_every: Length | None = _setting(None, "length between checkpoints (default: eval_every)", main=True)
    keep_newest: int = _setting(2, "checkpoints to resume from that are kept", AT_LEAST_1)
    keep_best: int = _setting(1, "checkpoints with the best objective that are kept", AT_LEAST_1)

    devices: str = _setting("auto", "devices that share a batch: auto or a number", _counted("auto"), main=True)
    lane_width: str = _setting("auto", "lanes that run together under vmap: auto or a number", _counted("auto"))
    parallel: str = _setting(
        "shard_map", "what maps the devices: shard_map or pmap (same bits)", _choice("shard_map", "pmap"), main=True
    )

    run_dir: str | None = _setting(None, "the run's folder (default: runs/DATASET_MODEL-TIME)", main=True)
    resume: bool = _setting(True, "go on in a folder that holds this run; false refuses such a folder", main=True)
    overwrite: bool = _setting(False, "start anew in a folder that holds a run, deleting it", main=True)
    tensorboard: bool = _setting(True, "write TensorBoard events")
    progress: bool = _setting(True, "show progress")

    def __post_init__(self) -> None:
        for name in FIELDS:
            object.__setattr__(self, name, convert(name, getattr(self, name)))

    def replace(self, **changes: Any) -> "Config":
        """Returns a copy with some settings changed; raises ConfigError for an unknown name or a bad value."""
        for name in changes:
            if name not in FIELDS:
                raise ConfigError(f"setting '{name}' is unknown{did_you_mean(name, FIELDS)}")
        return dataclasses.replace(self, **changes)


FIELDS: dict[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(Config)}
TYPES: dict[str, Any] = typing.get_type_hints(Config)

GROUPS: dict[str, str] = {
    "dataset": "data",
    "model": "model",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "loss": "training",
    "objective": "evaluation, logs and checkpoints",
    "devices": "devices",
    "run_dir": "the run's folder and the screen",
}
"""The first setting of each group, and the group's name."""

NOT_PART_OF_A_RUN = ("run_dir", "resume", "overwrite", "progress")
"""Settings that say where and how to run, not what: two runs that differ only in these are the same run."""

PLACES = ("data_dir",)
"""Settings that say where something lies: part of flags.txt, but it may have moved (the data itself is compared)."""


def optional(name: str) -> bool:
    """Returns whether a setting may be None."""
    return type(None) in typing.get_args(TYPES[name])


def kind(name: str) -> Any:
    """Returns a setting's type without None: bool, int, float, str, `Length` or tuple."""
    declared = typing.get_args(TYPES[name])[0] if optional(name) else TYPES[name]
    return typing.get_origin(declared) or declared


def convert(name: str, value: Any) -> Any:
    """Returns a setting's value as its type, from a value or its text.

    Args:
      name: a setting.
      value: a value of its type, or a text as in a flag; None, or an empty text, where it may be None.

    Raises:
      ConfigError: the value has another type or is out of the setting's domain.
    """
    if optional(name) and (value is None or value == ""):
        return None
    try:
        result = _PARSERS[kind(name)](value)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name} is {value!r}; expected {_EXPECTED[kind(name)]}") from None
    domain = FIELDS[name].metadata["domain"]
    if domain is not None and not domain[0](result):
        raise ConfigError(f"{name} is {value!r}; expected {domain[1]}{_near(result, domain[1])}")
    return result


def to_text(name: str, value: Any) -> str:
    """Returns a setting's value as a flag spells it, so that `convert` gives it back."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _near(value: Any, expected: str) -> str:
    return did_you_mean(value, expected.removeprefix("one of ").split(", ")) if expected.startswith("one of ") else ""


def _bool(value: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError
    return words[value.lower()]


def _int(value: Any) -> int:
    if isinstance(value, bool) or (not isinstance(value, str) and value != int(value)):
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, numbers.Integral, os.PathLike)):
        raise ValueError
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    text.encode()
    # A line of a flagfile could not hold it.
    if text != text.strip() or any(character < " " for character in text):
        raise ValueError
    return text


def _length(value: Any) -> str:
    text = _text(value)
    durations.parse(text)
    return text


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        value = [] if value.strip() == "none" else value.split(",")
    return tuple(_int(part) for part in value)


_PARSERS: dict[Any, Callable[[Any], Any]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _text,
    Length: _length,
    tuple: _sizes,
}
_EXPECTED: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text of one line, no space at its ends",
    Length: "a length: 500, 500steps, 3epochs, 40000examples or 10%",
    tuple: "whole numbers, separated by commas, or none",
}
