"""What holds of every registered optimizer; one that a test registers goes through the same checks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hpjax import optimizers
from hpjax.config import FIELDS
from hpjax.optimizers import OPTIMIZERS, Rules, create
from hpjax.registry import Scalar
from optimizer_runs import compiled, defaults, problem

UPDATES = 20
SHAPES = {"bias": (4,), "convolution": (2, 2, 2, 3), "kernel": (5, 4), "scale": (3,)}
RULES = Rules.create(
    {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in SHAPES.items()},
    decay_rules=("kernel=0.5", ".*=0"),
    learning_rate_rules=("kernel=3", ".*=1"),
    freeze=("conv",),
)
OFF = {"weight_decay": 0.0, "l1": 0.0, "l2": 0.0, "clip_value": math.inf, "clip_layer_norm": math.inf, "clip_norm": math.inf}


def inputs_of(rng):
    """Returns float32 parameters (the biases start at 0), gradients of 20 updates and learning rates."""
    params, gradients, learning_rates = problem(rng, SHAPES)
    params["bias"] *= 0
    cut = (params, jax.tree.map(lambda g: g[:UPDATES], gradients), learning_rates[:UPDATES])
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), cut)


def settings_of(name, lane):
    """Returns traced settings near the defaults, others for each lane, that stay where a default in (-1, 1) is."""

    def value(default):
        if default == 0 or math.isinf(default):
            return 0.01 * lane if default == 0 else 20.0 / lane if lane else default
        return default * (1 - 0.07 * lane if default < 1 else 1 + 0.1 * lane)

    return {setting: np.float32(value(default)) for setting, default in defaults(name).items()}


def other(setting, value):
    """Returns another value of a setting, in its domain, far enough to see."""
    domain = FIELDS[setting].metadata["domain"][0] if setting in FIELDS else lambda value: True
    if math.isinf(value):
        return np.float32(0.5)
    candidates = (value / 2, 0.05) if abs(value) > 0.02 else (5.0, 0.5, 0.0)
    return np.float32(next(new for new in candidates if domain(new) and new != value))


def close(got, expected, tolerance=2e-6):
    """Compares trajectories. A tensor near 0 is judged by its largest value: its elements are differences."""

    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-3))

    jax.tree.map(check, got, expected)


def one_program_for_all_values(name, rng):
    inputs, run = inputs_of(rng), compiled(name)
    before = run._cache_size()
    for lane in range(4):
        run(*inputs, settings_of(name, lane))
    assert run._cache_size() <= max(before, 1)


def every_setting_has_an_effect(name, rng):
    inputs = inputs_of(rng)
    usual = {**settings_of(name, 1), **{limit: np.float32(np.inf) for limit in OFF if "clip" in limit}}
    expected, _ = compiled(name)(*inputs, usual)
    for setting, value in usual.items():
        got, _ = compiled(name)(*inputs, {**usual, setting: other(setting, value)})
        assert any(np.any(a != b) for a, b in zip(got.values(), expected.values(), strict=True)), setting


def every_setting_is_a_flag_with_a_domain(name, rng):
    for setting, default in OPTIMIZERS.settings(name).items():
        if setting not in FIELDS:
            assert setting in OPTIMIZERS.own(name)
        elif not isinstance(default, bool):
            assert FIELDS[setting].metadata["domain"][0](default), setting


def lanes_equal_each_alone(name, rng):
    inputs, lanes = inputs_of(rng), [settings_of(name, lane) for lane in range(3)]
    stacked = {setting: np.stack([lane[setting] for lane in lanes]) for setting in lanes[0]}
    together, evaluated = jax.jit(jax.vmap(compiled(name), (None, None, None, 0)))(*inputs, stacked)
    for i, lane in enumerate(lanes):
        alone = compiled(name)(*inputs, lane)
        close(jax.tree.map(lambda leaf, i=i: leaf[i], (together, evaluated)), alone)


def the_state_does_not_depend_on_values(name, rng):
    params, gradients, _ = inputs_of(rng)
    describe = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
    states = []
    for lane in range(3):
        transformation = optimizers.transformation(name, np.float32(0.1 * lane), settings_of(name, lane))
        states.append(transformation.init(params))
        _, after = jax.eval_shape(transformation.update, jax.tree.map(lambda g: g[0], gradients), states[-1], params)
        assert describe(after) == describe(states[-1])
    for state in states[1:]:
        jax.tree.map(np.testing.assert_array_equal, state, states[0])


def decay_is_for_matrices(name, rng):
    inputs, usual = inputs_of(rng), {**settings_of(name, 1), **OFF}
    expected, _ = compiled(name)(*inputs, usual)
    for setting in ("weight_decay", "l1", "l2"):
        got, _ = compiled(name)(*inputs, {**usual, setting: 0.3})
        for vector in ("bias", "scale"):
            np.testing.assert_array_equal(got[vector], expected[vector])
        for matrix in ("kernel", "convolution"):
            assert np.any(got[matrix] != expected[matrix])


def clipping_is_of_the_gradient(name, rng):
    """In float64: what a sign or a root makes of float32's rounding is large."""
    params, gradients, learning_rates = inputs_of(rng)
    settings = {**settings_of(name, 1), **OFF}
    limits = {"clip_value": 0.7, "clip_layer_norm": 2.0, "clip_norm": 2.5}
    ours = {key: np.clip(g.astype(np.float64), -0.7, 0.7) for key, g in gradients.items()}
    norm = lambda g: np.sqrt((g**2).reshape(UPDATES, -1).sum(1))  # noqa: E731
    scaled = lambda g, size: g * size.reshape(-1, *(1,) * (g.ndim - 1))  # noqa: E731
    ours = {key: scaled(g, np.minimum(1, 2.0 / np.maximum(norm(g), 1e-30))) for key, g in ours.items()}
    total = np.sqrt(sum(norm(g) ** 2 for g in ours.values()))
    assert (total > 2.5).any() and (total < 2.5).any()
    ours = {key: scaled(g, np.minimum(1, 2.5 / total)) for key, g in ours.items()}
    with jax.enable_x64(True):
        double = lambda tree: jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)  # noqa: E731
        run = lambda g, values: compiled(name)(double(params), double(g), double(learning_rates), double(values))  # noqa: E731
        got, _ = run(gradients, {**settings, **limits})
        close(got, run(ours, settings)[0], 1e-9)


def rules_hold(name, rng):
    params, gradients, learning_rates = inputs_of(rng)
    values = {**settings_of(name, 1), **OFF, "weight_decay": 0.02, "l1": 0.002, "l2": 0.01}
    got, evaluated = compiled(name, (), RULES)(params, gradients, learning_rates, values)
    np.testing.assert_array_equal(got["convolution"], np.broadcast_to(params["convolution"], got["convolution"].shape))
    np.testing.assert_array_equal(evaluated["convolution"], params["convolution"])
    usual, _ = compiled(name)(params, gradients, learning_rates, values)
    close({key: got[key] for key in ("bias", "scale")}, {key: usual[key] for key in ("bias", "scale")})
    halved = {
        key: value * np.float32(0.5) if key in ("weight_decay", "l1", "l2") else value for key, value in values.items()
    }
    faster, _ = compiled(name)(params, gradients, learning_rates * 3, halved)
    close(got["kernel"], faster["kernel"])


def nothing_stays_finite(name, rng):
    params, gradients, learning_rates = jax.tree.map(np.zeros_like, inputs_of(rng))
    for rates in (learning_rates, learning_rates + np.float32(0.1)):
        result = compiled(name)(params, gradients, rates, defaults_as_arrays(name))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


def it_descends(name, rng):
    """From its own defaults, on a quadratic whose loss all of them lower by a tenth in 300 updates."""
    target = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    loss = lambda params: ((params["kernel"] - target) ** 2).sum()  # noqa: E731
    transformation = create(name)

    def update(carry, _):
        updates, state = transformation.update(jax.grad(loss)(carry[0]), carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    params = {"kernel": 1.2 * target}
    (after, _), _ = jax.jit(lambda params: jax.lax.scan(update, (params, transformation.init(params)), length=300))(params)
    assert loss(after) < 0.9 * loss(params)


def defaults_as_arrays(name):
    return {setting: np.float32(value) for setting, value in defaults(name).items()}


CHECKS = (
    one_program_for_all_values,
    every_setting_has_an_effect,
    every_setting_is_a_flag_with_a_domain,
    lanes_equal_each_alone,
    the_state_does_not_depend_on_values,
    decay_is_for_matrices,
    clipping_is_of_the_gradient,
    rules_hold,
    nothing_stays_finite,
    it_descends,
)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_optimizer(check, name, rng):
    check(name, rng)


def test_a_new_optimizer_is_one_function(monkeypatch, rng):
    monkeypatch.setattr(OPTIMIZERS, "_entries", dict(OPTIMIZERS._entries))
    monkeypatch.setattr(OPTIMIZERS, "_imported", {})

    @OPTIMIZERS.register
    def softsign(learning_rate: Scalar = 0.01, *, temperature: Scalar = 0.5, momentum: Scalar = 0.9):
        """Steps by a smooth sign of the momentum."""
        squash = optax.stateless(lambda tree, _: jax.tree.map(lambda v: v / (jnp.abs(v) + temperature), tree))
        return optax.chain(optax.ema(momentum, debias=False), squash, optax.scale_by_learning_rate(learning_rate))

    for check in CHECKS:
        check("softsign", rng)
    assert optimizers.momentum_setting("softsign") == "momentum"
