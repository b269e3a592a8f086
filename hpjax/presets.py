"""Settings that were published together for batches of a certain size (`--preset`)."""

from typing import Any, NamedTuple

from hpjax.config import FIELDS, Config
from hpjax.errors import ConfigError


class Row(NamedTuple):
    """What a preset says of batches of some sizes.

    Attributes:
      most: examples of the largest batch that it covers; the smallest is one more than the row before covers.
      settings: values by setting.
    """

    most: int
    settings: dict[str, Any]


def _lars(most: int, rate: float, warmup: int, epochs: int, momentum: float, weight_decay: float) -> Row:
    return Row(
        most,
        {
            "optimizer": "lars",
            "learning_rate": rate,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": 1e-3,
            "schedule": "polynomial",
            "power": 2.0,
            # The rate falls to 1e-4, whatever its peak.
            "end_factor": 1e-4 / rate,
            "warmup": f"{warmup}epochs",
            "train_steps": f"{epochs}epochs",
            "label_smoothing": 0.1,
        },
    )


PRESETS: dict[str, tuple[Row, ...]] = {
    "lars_imagenet": (
        _lars(16_383, 10.0, 5, 56, 0.9, 2e-4),
        _lars(32_767, 25.0, 5, 56, 0.9, 2e-4),
        _lars(65_535, 29.0, 18, 64, 0.929, 1e-4),
        _lars(65_536, 23.081, 33, 92, 0.95372, 1e-4),
    )
}
"""Presets by name, the rows in the order of their batches.

`lars_imagenet`: ResNet-50 on ImageNet to 75.9 %, as published with the MLPerf Training benchmarks.
"""


def apply(config: Config) -> Config:
    """Returns the config with its preset's values for whatever has its default; what is given stays.

    Raises:
      ConfigError: the preset does not cover the batch, is for another optimizer, or goes with a scaled learning rate.
    """
    if config.preset is None:
        return config
    rows = PRESETS[config.preset]
    row = next((row for row in rows if config.batch_size <= row.most), None)
    if row is None:
        raise ConfigError(
            f"preset '{config.preset}' is for batches of at most {rows[-1].most} examples; batch_size is {config.batch_size}"
        )
    optimizer = row.settings["optimizer"]
    if config.optimizer not in (optimizer, FIELDS["optimizer"].default):
        raise ConfigError(f"preset '{config.preset}' is for optimizer {optimizer}; optimizer is '{config.optimizer}'")
    if config.lr_scaling != "none" and config.learning_rate is None:
        raise ConfigError(
            f"lr_scaling is {config.lr_scaling}, but the rates of preset '{config.preset}' are those of its batches; "
            "expected lr_scaling none, or a learning_rate"
        )
    return config.replace(
        **{name: value for name, value in row.settings.items() if getattr(config, name) == FIELDS[name].default}
    )
