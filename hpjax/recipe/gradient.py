"""Step 2: gradients by automatic differentiation against central differences in float64, parameter by parameter."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hpjax import build
from hpjax.batch import Examples
from hpjax.data.order import GENERATOR
from hpjax.inspection.layers import by_path
from hpjax.recipe.context import Context, plain
from hpjax.recipe.finding import Finding, Note, Table
from hpjax.resolve import lengths, traced

EXAMPLES = 16
DIRECTIONS = 4
STEP = 1e-5
"""Of the size of the parameter along the direction."""
AGREES = 1e-4
"""Relative difference that rounding and the step's own error explain; a kink in one of several directions is forgiven."""


def gradient(context: Context) -> Finding:
    """Returns by how much each parameter's gradient differs from the loss's differences along random directions.

    Source: Griewank and Walther, Evaluating Derivatives (2008), section 2.1, for the error of central differences.
    """
    with jax.enable_x64(True):
        rows, parameters = _compared(context)
    table: Table = {"parameter": [name for name, _ in rows], "difference": [worst for _, worst in rows]}
    bad = [(name, worst) for name, worst in rows if not worst <= AGREES]
    if bad:
        name, worst = max(bad, key=lambda row: row[1] if np.isfinite(row[1]) else np.inf)
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        note = Note(
            "gradient",
            "failed",
            f"the gradient of {name}{more} is off by {worst:.2g}, relative",
            "look for a custom_vjp, a stop_gradient or a rounding operation between it and the loss",
        )
        advice = "training with wrong gradients says nothing about hyperparameters"
        return Finding("gradient", (note,), advice=advice, stops=True, tables={"gradients": table})
    largest = max((worst for _, worst in rows), default=0.0)
    of_all = f" of {parameters} (there was no time for more)" if context.late and len(rows) < parameters else ""
    text = f"gradients of {len(rows)}{of_all} parameters agree with differences in float64 to {largest:.1g}, relative"
    return Finding("gradient", (Note("gradient", "ok", text),), tables={"gradients": table})


def _compared(context: Context) -> tuple[list[tuple[str, float]], int]:
    """Returns each parameter's path with its relative difference over some directions, as median, and how many there are.

    The last are left out where the time is over.
    """
    dataset, config = context.dataset, plain(context.config, 1)
    trial = dataclasses.replace(build.trial(config, dataset), data_axis=None, data_shards=1)
    values = traced(config, lengths(config, dataset.splits["train"][1])[0])
    examples = Examples(jnp.asarray(dataset.x), jnp.asarray(dataset.y))
    key = jax.random.key(np.uint32(config.seed), impl=GENERATOR)
    index = jnp.linspace(0, dataset.splits["train"][1] - 1, min(EXAMPLES, dataset.splits["train"][1])).astype(jnp.int32)
    x, y = trial.reader.read(examples, index)
    variables = dict(trial.model.init(key, x))
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    params, rest = wide.pop("params"), wide
    x = x if dataset.tokens else x.astype(jnp.float64)

    @jax.jit
    def loss(params: Any) -> jax.Array:
        return trial.items(values)(trial.model.apply({"params": params, **rest}, x), y).mean()  # type: ignore[arg-type]

    gradients = by_path(jax.jit(jax.grad(loss))(params))
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    leaves = [leaf for _, leaf in paths]
    rng = np.random.default_rng(config.seed)

    @jax.jit
    def difference(at: list[Any], place: jax.Array, direction: list[Any], step: jax.Array) -> jax.Array:
        moved = [
            [leaf + sign * step * (place == i) * d for i, (leaf, d) in enumerate(zip(at, direction, strict=True))]
            for sign in (1.0, -1.0)
        ]
        ahead, behind = (loss(jax.tree.unflatten(tree, one)) for one in moved)
        return (ahead - behind) / (2 * step)

    rows = []
    for i, name in enumerate(names):
        if context.late:
            break
        if not leaves[i].size:
            continue
        found = []
        for _ in range(DIRECTIONS):
            direction = [
                rng.standard_normal(leaf.shape) if i == j else np.zeros(leaf.shape) for j, leaf in enumerate(leaves)
            ]
            direction[i] /= np.linalg.norm(direction[i])
            step = STEP * max(float(np.linalg.norm(leaves[i])), 1.0)
            numeric = float(difference(leaves, np.int32(i), direction, np.float64(step)))
            exact = float(jnp.vdot(gradients[name], direction[i]))
            scale = max(abs(numeric), abs(exact), 1e-3 * float(jnp.linalg.norm(gradients[name])), 1e-12)
            found.append(abs(numeric - exact) / scale)
        # A kink of a ReLU lies in few directions; a wrong gradient is wrong in all.
        rows.append((name, float(np.median(found))))
    return rows, len(names)
