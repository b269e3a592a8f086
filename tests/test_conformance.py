"""Every registered part in a lane program: lanes of different values, two devices, no recompilation, resume.

A part is tested by being registered: the tables go over the registries, and the last tests register parts of their own.
"""

import jax
import jax.numpy as jnp
import optax
import pytest

import conformance
from hpjax.data.augment import AUGMENTATIONS
from hpjax.errors import ConfigError
from hpjax.losses import LOSSES
from hpjax.losses import registry as losses
from hpjax.models import MODELS
from hpjax.optimizers import OPTIMIZERS
from hpjax.registry import Scalar
from hpjax.schedules import SCHEDULES
from needed import needed
from small_models import TIME, small

TASKS = {
    "classification": {"dataset": "synthetic", "examples": 300, "features": 5, "classes": 3},
    "regression": {"dataset": "diabetes"},
    "multilabel": {"dataset": "conformance:several_labels"},
    "language": {"dataset": "synthetic_tokens", "examples": 300, "classes": 7, "context_length": TIME},
}
PICTURES = {"dataset": "digits"}


@pytest.fixture
def registries(monkeypatch):
    """What a test registers is forgotten after it."""
    for registry in (SCHEDULES, OPTIMIZERS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_imported", {})


def check_optimizer(name, folder):
    config = conformance.settings(**TASKS["classification"], optimizer=name)
    conformance.check(config, folder, OPTIMIZERS.traced(name))


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_optimizer(name, tmp_path):
    check_optimizer(name, tmp_path)


def check_schedules(names, folder):
    """Schedules are values: all of them run in the one program of the first."""
    program = None
    for i, name in enumerate(names):
        config = conformance.settings(**TASKS["classification"], schedule=name, **needed(name))
        other = conformance.settings(
            **TASKS["classification"],
            schedule="linear(start_factor=0.5,end_factor=1):1, cosine",
            weight_decay=0.1,
            weight_decay_schedule="linear",
            batch_size_schedule="linear(start_factor=1,end_factor=2)",
        )
        program = conformance.check(config, folder / str(i), other=other, program=program)


def test_schedules(tmp_path):
    check_schedules(SCHEDULES.names(), tmp_path)


@pytest.mark.parametrize("name", MODELS.names())
def test_model(name, tmp_path):
    row = small(name)
    data = TASKS["language"] if row.tokens else PICTURES if len(row.example) == 3 else TASKS["classification"]
    traced = dict.fromkeys(MODELS.traced(name), 0.2)
    config = conformance.settings(**{**data, **row.settings, **traced}, model=name)
    conformance.check(config, tmp_path, tuple(traced))


@pytest.mark.parametrize("name", LOSSES.names())
@pytest.mark.parametrize("task", TASKS)
def test_loss(task, name, tmp_path):
    if task not in losses.tasks(name):
        with pytest.raises(ConfigError, match=f"loss '{name}' is not for {task}"):
            conformance.settings(**TASKS[task], loss=name)
        return
    model = {"model": "lstm", **small("lstm").settings} if task == "language" else {}
    config = conformance.settings(**TASKS[task], loss=name, metrics=(), **model)
    conformance.check(config, tmp_path, LOSSES.traced(name))


def test_augmentations_and_mixup(tmp_path):
    config = conformance.settings(**PICTURES, augment=AUGMENTATIONS.names(), mixup_alpha=0.3)
    traced = {setting for name in AUGMENTATIONS.names() for setting in AUGMENTATIONS.traced(name)}
    conformance.check(config, tmp_path, (*traced, "mixup_alpha"))


def test_averaging_sharpness_and_rules(tmp_path):
    config = conformance.settings(
        **TASKS["classification"],
        ema_decay=0.9,
        sam_rho=0.05,
        freeze=("Dense_0/bias",),
        learning_rate_rules=("Dense_1=10", ".*=1"),
        weight_decay=0.1,
        l1=0.01,
    )
    conformance.check(config, tmp_path, ("ema_decay", "sam_rho", "weight_decay", "l1"))


def test_a_new_schedule_is_one_function(registries, tmp_path):
    @SCHEDULES.register
    def sine(step: jax.Array, total_steps: jax.Array, *, dip: Scalar = 0.5) -> jax.Array:
        """Swings below the peak."""
        share = step.astype(jnp.float32) / jnp.maximum(total_steps, 1).astype(jnp.float32)
        return 1.0 - dip * jnp.sin(jnp.pi * share) ** 2

    check_schedules(["sine"], tmp_path)
    config = conformance.settings(schedule="sine", set=("dip=0.25",))
    assert config.set == ("dip=0.25",)
    with pytest.raises(ConfigError, match=r"set has 'dap=1'.*did you mean 'dip'"):
        conformance.settings(schedule="sine", set=("dap=1",))


def test_a_new_optimizer_is_one_function(registries, tmp_path):
    @OPTIMIZERS.register
    def signs(learning_rate: Scalar = 0.01, *, mix: Scalar = 0.5) -> optax.GradientTransformation:
        """Steps of the gradient's sign, mixed with the gradient."""
        scale = optax.stateless(lambda g, _: jax.tree.map(lambda leaf: mix * jnp.sign(leaf) + (1 - mix) * leaf, g))
        return optax.chain(scale, optax.scale_by_learning_rate(learning_rate))

    check_optimizer("signs", tmp_path)
    assert conformance.settings(optimizer="signs", set=("mix=0.1",)).set == ("mix=0.1",)
