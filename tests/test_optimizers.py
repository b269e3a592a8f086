"""Optimizers against torch.optim and float64 NumPy, and the conformance of every registered optimizer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hpjax import optimizers
from hpjax.optimizers import OPTIMIZERS

UPDATES = 200
SHAPES = {"bias": (5,), "convolution": (3, 3, 2, 4), "kernel": (7, 5)}


@partial(jax.jit, static_argnums=0)
def trajectory(name, params, gradients, learning_rates, values):
    """Returns the parameters after each update: the transformation is made anew each time, as a trial does."""

    def update(carry, at):
        params, state = carry
        gradient, learning_rate = at
        updates, state = optimizers.create(name, learning_rate, values).update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    state = optimizers.create(name, 0.0, values).init(params)
    return jax.lax.scan(update, (params, state), (gradients, learning_rates))[1]


def problem(rng: np.random.Generator):
    """Returns parameters, gradients of 200 updates and their learning rates; all are float32 numbers in float64."""
    exact = lambda x: x.astype(np.float32).astype(np.float64)  # noqa: E731
    params = {name: exact(rng.normal(size=shape)) for name, shape in SHAPES.items()}
    # Sizes over three decades, and a stretch without any gradient, as dead units have.
    size = 10 ** rng.uniform(-2, 1, (UPDATES, 1))
    size[50:53] = 0
    gradients = {
        name: exact((rng.normal(size=(UPDATES, np.prod(shape))) * size).reshape(UPDATES, *shape))
        for name, shape in SHAPES.items()
    }
    return params, gradients, exact(0.02 * rng.uniform(0.1, 1.0, UPDATES))


def ours(name, params, gradients, learning_rates, dtype, **settings):
    with jax.enable_x64(dtype == np.float64):
        cast = lambda tree: jax.tree.map(lambda leaf: np.asarray(leaf, dtype), tree)  # noqa: E731
        values = cast({"clip_norm": np.inf, **OPTIMIZERS.settings(name), **settings})
        result = trajectory(name, *cast((params, gradients, learning_rates)), values)
        assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {np.dtype(dtype)}
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), result)


def torch_trajectory(torch, make, params, gradients, learning_rates, decay):
    """Runs the torch optimizer that `make(groups)` returns; parameters of one dimension get no decay."""
    weights = {name: torch.nn.Parameter(torch.tensor(leaf, dtype=torch.float64)) for name, leaf in params.items()}
    optimizer = make([{"params": [w], "weight_decay": decay if w.ndim > 1 else 0.0} for w in weights.values()])
    steps = []
    for t, learning_rate in enumerate(learning_rates):
        for group in optimizer.param_groups:
            group["lr"] = float(learning_rate)
        for name, weight in weights.items():
            weight.grad = torch.tensor(gradients[name][t])
        optimizer.step()
        steps.append({name: weight.detach().numpy().copy() for name, weight in weights.items()})
    return {name: np.stack([step[name] for step in steps]) for name in weights}


def worst(got, expected) -> float:
    """Returns the largest relative distance (norm) of any leaf at any update."""

    def distance(a, b):
        norm = lambda x: np.linalg.norm(x.reshape(len(x), -1), axis=1)  # noqa: E731
        return (norm(a - b) / norm(b)).max()

    return max(jax.tree.leaves(jax.tree.map(distance, got, expected)))


def single(x: float) -> float:
    """Rounds to float32, so that both sides compute with the same setting."""
    return float(np.float32(x))


both = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 3e-6)])


@both
@pytest.mark.parametrize("l2", [0.0, 0.03])
def test_momentum_is_torch_sgd(torch, rng, dtype, tolerance, l2):
    params, gradients, learning_rates = problem(rng)
    decay, momentum = single(l2), single(rng.uniform(0.5, 0.95))
    expected = torch_trajectory(
        torch, lambda groups: torch.optim.SGD(groups, momentum=momentum), params, gradients, learning_rates, decay
    )
    got = ours("momentum", params, gradients, learning_rates, dtype, momentum=momentum, l2=decay)
    assert worst(got, expected) < tolerance


@both
@pytest.mark.parametrize("weight_decay", [0.0, 0.03])
def test_adamw_is_torch_adamw(torch, rng, dtype, tolerance, weight_decay):
    params, gradients, learning_rates = problem(rng)
    decay, betas, epsilon = single(weight_decay), (single(0.9), single(0.999)), single(1e-6)
    expected = torch_trajectory(
        torch,
        lambda groups: torch.optim.AdamW(groups, betas=betas, eps=epsilon),
        params,
        gradients,
        learning_rates,
        decay,
    )
    settings = {"beta1": betas[0], "beta2": betas[1], "epsilon": epsilon, "weight_decay": decay}
    assert worst(ours("adamw", params, gradients, learning_rates, dtype, **settings), expected) < tolerance


@both
def test_adamw_with_l2_is_torch_adam(torch, rng, dtype, tolerance):
    params, gradients, learning_rates = problem(rng)
    decay, epsilon = single(0.03), single(1e-6)
    betas = (single(0.8), single(0.99))
    expected = torch_trajectory(
        torch, lambda groups: torch.optim.Adam(groups, betas=betas, eps=epsilon), params, gradients, learning_rates, decay
    )
    settings = {"beta1": betas[0], "beta2": betas[1], "epsilon": epsilon, "l2": decay}
    assert worst(ours("adamw", params, gradients, learning_rates, dtype, **settings), expected) < tolerance


@both
def test_decoupled_decay_of_momentum(rng, dtype, tolerance):
    params, gradients, learning_rates = problem(rng)
    momentum, decay, l2 = single(0.8), single(0.05), single(0.02)
    expected = {}
    for name, initial in params.items():
        weight, matrix, steps, buffer = initial, initial.ndim > 1, [], 0.0
        for gradient, learning_rate in zip(gradients[name], learning_rates, strict=True):
            buffer = momentum * buffer + gradient + matrix * l2 * weight
            weight = weight - learning_rate * buffer - learning_rate * matrix * decay * weight
            steps.append(weight)
        expected[name] = np.stack(steps)
    got = ours("momentum", params, gradients, learning_rates, dtype, momentum=momentum, weight_decay=decay, l2=l2)
    assert worst(got, expected) < tolerance


@both
def test_lars_is_the_papers(rng, dtype, tolerance):
    """You, Gitman and Ginsburg (2017), algorithm 1, in float64; `problem` has updates without gradient."""
    params, gradients, learning_rates = problem(rng)
    params["zero"], gradients["zero"] = np.zeros((2, 3)), gradients["kernel"][:, :2, :3]
    learning_rates = learning_rates * 50
    momentum, decay, eta, epsilon = single(0.9), single(1e-3), single(0.01), single(1e-9)
    expected = {}
    for name, initial in params.items():
        weight, steps, buffer = initial, [], np.zeros_like(initial)
        for gradient, learning_rate in zip(gradients[name], learning_rates, strict=True):
            weight_norm, gradient_norm = np.sqrt((weight**2).sum()), np.sqrt((gradient**2).sum())
            if weight.ndim > 1 and weight_norm > 0 and gradient_norm > 0:
                local = eta * weight_norm / (gradient_norm + decay * weight_norm + epsilon)
                buffer = momentum * buffer + learning_rate * local * (gradient + decay * weight)
            else:
                buffer = momentum * buffer + learning_rate * gradient
            weight = weight - buffer
            steps.append(weight)
        expected[name] = np.stack(steps)
    settings = {"momentum": momentum, "weight_decay": decay, "trust_coefficient": eta, "epsilon": epsilon}
    assert worst(ours("lars", params, gradients, learning_rates, dtype, **settings), expected) < tolerance


@pytest.mark.parametrize("share", [0.03, 0.9, 1.1, 50.0])
def test_clip_norm_is_torch_clip_grad_norm(torch, rng, share):
    """torch divides by norm + 1e-6: where it clips, its result is smaller by 1e-6 / norm, which bounds the difference."""
    gradients = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    norm = float(np.sqrt(sum((g**2).sum() for g in gradients.values())))
    weights = {name: torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for name, shape in SHAPES.items()}
    for name, weight in weights.items():
        weight.grad = torch.tensor(gradients[name])
    torch.nn.utils.clip_grad_norm_(list(weights.values()), share * norm)
    with jax.enable_x64(True):
        values = {"clip_norm": jnp.float64(share * norm), "momentum": 0.0, "weight_decay": 0.0, "l2": 0.0}
        transformation = optimizers.create("momentum", jnp.float64(1.0), values)
        updates, _ = transformation.update(gradients, transformation.init(gradients), gradients)
        for name, weight in weights.items():
            np.testing.assert_allclose(-updates[name], weight.grad.numpy(), rtol=1e-6 / norm + 1e-14)
    length = float(np.sqrt(sum((np.asarray(u) ** 2).sum() for u in updates.values())))
    assert length == pytest.approx(min(share, 1.0) * norm, rel=1e-13)


def settings_of(name: str, lane: int) -> dict[str, np.ndarray]:
    """Returns float32 settings near the defaults, others for each lane, that stay where a default in (0, 1) is."""

    def value(default: float) -> float:
        if default == 0:
            return 0.01 * lane
        return default * (1 - 0.07 * lane if default < 1 else 1 + 0.1 * lane)

    values = {setting: np.float32(value(default)) for setting, default in OPTIMIZERS.settings(name).items()}
    return {"clip_norm": np.float32(np.inf if lane == 0 else 20.0 * lane), **values}


def short(rng: np.random.Generator, updates: int = 5):
    params, gradients, learning_rates = problem(rng)
    cast = partial(jax.tree.map, lambda leaf: leaf.astype(np.float32))
    return cast(params), cast(jax.tree.map(lambda g: g[:updates], gradients)), cast(learning_rates[:updates])


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_setting_is_traced(name, rng):
    params, gradients, learning_rates = short(rng)
    fresh = jax.jit(partial(trajectory.__wrapped__, name))
    for lane in range(4):
        fresh(params, gradients, learning_rates, settings_of(name, lane))
    assert fresh._cache_size() == 1


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_setting_has_an_effect(name, rng):
    params, gradients, learning_rates = short(rng, updates=20)
    values = {**settings_of(name, 1), "clip_norm": np.float32(1.0)}
    usual = trajectory(name, params, gradients, learning_rates, values)
    for setting, value in values.items():
        other = {**values, setting: np.float32(0.05 if value < 1e-6 else value / 2)}
        assert worst(trajectory(name, params, gradients, learning_rates, other), usual) > 0, setting


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_state_does_not_depend_on_the_settings(name, rng):
    params, gradients, _ = short(rng)
    states = []
    for lane in range(3):
        transformation = optimizers.create(name, np.float32(0.1 * lane), settings_of(name, lane))
        state = transformation.init(params)
        states.append(state)
        _, after = transformation.update(jax.tree.map(lambda g: g[0], gradients), state, params)
        describe = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
        assert describe(after) == describe(state)
    for state in states[1:]:
        jax.tree.map(np.testing.assert_array_equal, state, states[0])


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_lanes_of_different_values_equal_each_alone(name, rng):
    params, gradients, learning_rates = short(rng, updates=20)
    lanes = [settings_of(name, lane) for lane in range(4)]
    stacked = {setting: np.stack([lane[setting] for lane in lanes]) for setting in lanes[0]}
    together = jax.jit(jax.vmap(partial(trajectory.__wrapped__, name), (None, None, None, 0)))(
        params, gradients, learning_rates, stacked
    )
    for i, lane in enumerate(lanes):
        alone = trajectory(name, params, gradients, learning_rates, lane)
        assert worst(jax.tree.map(lambda leaf, i=i: leaf[i], together), alone) < 1e-6


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_infinite_clip_norm_leaves_the_bits(name, rng):
    params, gradients, learning_rates = short(rng)
    values = {**settings_of(name, 1), "clip_norm": np.float32(np.inf)}
    bare = OPTIMIZERS.get(name)(learning_rates[0], **{s: values[s] for s in OPTIMIZERS.settings(name)})
    behind = optimizers.create(name, learning_rates[0], values)
    gradient = jax.tree.map(lambda g: g[0], gradients)
    expected, _ = bare.update(gradient, bare.init(params), params)
    got, _ = behind.update(gradient, behind.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, got, expected)
