"""What the tests of optimizers share: a problem, 200 updates as a trial makes them, how far two runs are apart."""

from functools import cache, partial

import jax
import numpy as np
import optax

from hpjax import optimizers
from hpjax.optimizers import OPTIMIZERS

UPDATES = 200
SHAPES = {"bias": (5,), "convolution": (3, 3, 2, 4), "kernel": (7, 5)}


@cache
def compiled(name, static=(), rules=None):
    """Returns (params, gradients, learning_rates, values) -> parameters after each update, and what is evaluated at the end.

    The transformation is made anew at each update, as a trial does.
    """

    def run(params, gradients, learning_rates, values):
        def update(carry, at):
            params, state = carry
            gradient, learning_rate = at
            transformation = optimizers.transformation(name, learning_rate, values, dict(static), rules)
            updates, state = transformation.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        state = optimizers.transformation(name, 0.0, values, dict(static), rules).init(params)
        (last, state), steps = jax.lax.scan(update, (params, state), (gradients, learning_rates))
        return steps, optimizers.evaluated(name, last, state, rules)

    return jax.jit(run)


def defaults(name):
    """Returns the default of every traced setting."""
    settings = OPTIMIZERS.settings(name)
    return {setting: settings[setting] for setting in OPTIMIZERS.traced(name)}


def exact(x):
    """Rounds to float32, in float64, so that both sides compute with the same number."""
    return np.asarray(x).astype(np.float32).astype(np.float64)


def single(x: float) -> float:
    return float(np.float32(x))


def problem(rng: np.random.Generator, shapes=None):
    """Returns parameters, gradients of 200 updates and their learning rates; all are float32 numbers in float64."""
    shapes = shapes or SHAPES
    params = {name: exact(rng.normal(size=shape)) for name, shape in shapes.items()}
    # Sizes over three decades, and a stretch without any gradient, as dead units have.
    size = 10 ** rng.uniform(-2, 1, (UPDATES, 1))
    size[50:53] = 0
    gradients = {
        name: exact((rng.normal(size=(UPDATES, np.prod(shape))) * size).reshape(UPDATES, *shape))
        for name, shape in shapes.items()
    }
    return params, gradients, exact(0.02 * rng.uniform(0.1, 1.0, UPDATES))


def ours(name, inputs, dtype, static=(), rules=None, **settings):
    """Returns the parameters after each update, and those to evaluate, computed in `dtype` and returned in float64."""
    with jax.enable_x64(dtype == np.float64):
        cast = partial(jax.tree.map, lambda leaf: np.asarray(leaf, dtype))
        result = compiled(name, static, rules)(*cast(inputs), cast({**defaults(name), **settings}))
        assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {np.dtype(dtype)}
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), result)


def worst(got, expected) -> float:
    """Returns the largest relative distance (norm) of any leaf at any update."""

    def distance(a, b):
        norm = lambda x: np.linalg.norm(np.asarray(x).reshape(len(x), -1), axis=1)  # noqa: E731
        return (norm(a - b) / norm(b)).max()

    return max(jax.tree.leaves(jax.tree.map(distance, got, expected)))


def each(inputs, update):
    """Runs an update of one tensor, `update(t, w, g, learning_rate, state) -> w` (state: a dict), in NumPy."""
    params, gradients, learning_rates = inputs
    runs = {}
    for name, weight in params.items():
        state, steps = {}, []
        for t, learning_rate in enumerate(learning_rates):
            weight = update(t + 1, weight, gradients[name][t], learning_rate, state)  # noqa: PLW2901
            steps.append(weight)
        runs[name] = np.stack(steps)
    return runs
