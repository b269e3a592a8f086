"""Published settings for large batches, and learning rates that grow with the batch."""

import numpy as np
import pytest

import hpjax
from hpjax import presets
from hpjax.config import FIELDS, Config
from hpjax.errors import ConfigError
from hpjax.resolve import lengths, resolve, traced
from hpjax.schedules import curves

IMAGES = {"dataset": "digits", "preset": "lars_imagenet"}
PUBLISHED = [
    (4096, 10.0, 5, 56, 0.9, 2e-4),
    (16_383, 10.0, 5, 56, 0.9, 2e-4),
    (16_384, 25.0, 5, 56, 0.9, 2e-4),
    (32_768, 29.0, 18, 64, 0.929, 1e-4),
    (65_536, 23.081, 33, 92, 0.95372, 1e-4),
]


def error(**settings: object) -> str:
    with pytest.raises(ConfigError) as raised:
        resolve(Config(**settings))
    return str(raised.value)


@pytest.mark.parametrize(("batch", "rate", "warmup", "epochs", "momentum", "decay"), PUBLISHED)
def test_the_lars_preset_is_chosen_by_the_batch(batch, rate, warmup, epochs, momentum, decay):
    config = resolve(Config(**IMAGES, batch_size=batch, micro_batch_size=1))
    assert (config.optimizer, config.learning_rate, config.momentum, config.weight_decay) == ("lars", rate, momentum, decay)
    assert (str(config.warmup), str(config.train_steps)) == (f"{warmup}epochs", f"{epochs}epochs")
    assert (config.label_smoothing, config.trust_coefficient) == (0.1, 1e-3)
    assert resolve(config) == config
    found = curves.curves(config, epoch_examples=1_281_167)
    shown = found.values["learning_rate"]
    assert shown.max() == pytest.approx(rate) and found.warmup_steps == -(-warmup * 1_281_167 // batch)
    # The last update is one before the rate would reach 1e-4.
    middle = np.interp((found.steps[-1] + found.warmup_steps) / 2, found.steps, shown)
    assert 1e-4 < shown[-1] < 1e-2 and middle == pytest.approx(rate / 4, rel=0.02)


def test_what_is_given_stays():
    config = resolve(Config(**IMAGES, batch_size=8192, learning_rate=3.0, train_steps="20epochs", label_smoothing=0.05))
    assert (config.learning_rate, str(config.train_steps), config.label_smoothing) == (3.0, "20epochs", 0.05)
    assert config.momentum == 0.9 and str(config.warmup) == "5epochs"


def test_a_preset_that_does_not_fit_is_refused():
    assert error(**IMAGES, batch_size=70_000) == (
        "preset 'lars_imagenet' is for batches of at most 65536 examples; batch_size is 70000"
    )
    assert error(**IMAGES, optimizer="adamw") == "preset 'lars_imagenet' is for optimizer lars; optimizer is 'adamw'"
    assert "lr_scaling is linear, but the rates of preset" in error(**IMAGES, lr_scaling="linear")
    assert "did you mean 'lars_imagenet'?" in error(dataset="digits", preset="lars_imagnet")


def test_the_flag_knows_every_preset():
    assert set(FIELDS["preset"].metadata["domain"][1].removeprefix("one of ").split(", ")) == set(presets.PRESETS)


@pytest.mark.parametrize(("rule", "power"), [("none", 0.0), ("linear", 1.0), ("sqrt", 0.5)])
def test_the_rate_grows_with_the_batch(rng, rule, power):
    for batch in (16, 256, 1024):
        base = None if rule == "none" else int(rng.integers(1, 600))
        rate = float(np.float32(rng.uniform(1e-3, 1)))
        config = resolve(Config(learning_rate=rate, batch_size=batch, lr_scaling=rule, base_batch_size=base))
        assert config.learning_rate == rate and resolve(config) == config
        values = traced(config, lengths(config, 2000)[0])
        assert values["learning_rate"] == pytest.approx(rate * (batch / (base or batch)) ** power, rel=1e-6)
    if rule != "none":
        assert resolve(Config(lr_scaling=rule)).base_batch_size == 256


def test_a_base_without_a_rule_is_refused():
    assert error(base_batch_size=128) == "base_batch_size is 128, but lr_scaling is none: give both or neither"


def test_the_scaled_rate_is_the_one_that_trains():
    """A run of a scaled rate and one of that rate itself give the same bits; trials of a study each have their batch's."""
    common = {"train_steps": "256examples", "eval_every": "256examples", "progress": False}
    scaled = hpjax.run(Config(**common, batch_size=64, learning_rate=0.1, lr_scaling="linear", base_batch_size=32))
    plain = hpjax.run(Config(**common, batch_size=64, learning_rate=0.2))
    assert (scaled.objective, scaled.test) == (plain.objective, plain.test)
    study = hpjax.run_sweep(
        Config(**common, learning_rate=0.1, lr_scaling="sqrt", base_batch_size=16),
        {"batch_size": "choice(16,64)"},
        trials=2,
        sampler="grid",
    )
    found = {trial.values["batch_size"]: trial.objective for trial in study.records}
    for batch, rate in ((16, 0.1), (64, 0.2)):
        alone = hpjax.run_sweep(
            Config(**common, learning_rate=rate), {"batch_size": "choice(16,64)"}, trials=2, sampler="grid"
        )
        assert found[batch] == next(t.objective for t in alone.records if t.values["batch_size"] == batch)
