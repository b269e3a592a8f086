"""Every layer before training: units that are always 0, signals and gradients that vanish or explode."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hpjax.batch import Examples
from hpjax.config import Config
from hpjax.inspection.layers import OUTPUT, activations, by_path
from hpjax.recipe.bench import Bench
from hpjax.recipe.finding import Note, Table
from hpjax.state import TrialState

EXAMPLES = 256
DEAD = 0.9
"""Share of a layer's units that are 0 for every example, above which it is as good as dead."""
VANISHED, EXPLODED = 1e-6, 1e4
"""Sizes (root mean squares) of a layer's gradient, relative to the largest, and of activations, that are noticed."""


def layer_table(bench: Bench, config: Config, state: TrialState) -> Table:
    """Returns what each layer gives and gets before training, columns by name, one value a layer.

    Args:
      bench: the program of the config's trial.
      config: a resolved config.
      state: a trial's first state, on the host.

    Returns:
      `layer`, `kind` (`activation` or `gradient`), `size` (root mean square), `dead` (share of units that are 0 for every
      example; NaN of gradients), `output` (whether what it gives is what the model gives).
    """
    dataset = bench.dataset
    trial = dataclasses.replace(bench.program.trial, data_axis=None, data_shards=1)
    number = min(EXAMPLES, dataset.splits["train"][1])
    values = jax.tree.map(lambda leaf: leaf[0], jax.device_get(bench.values([config])))

    @jax.jit
    def look(state: TrialState, examples: Examples) -> tuple[Any, Any]:
        index = jnp.linspace(0, dataset.splits["train"][1] - 1, number).astype(jnp.int32)
        x, y = trial.reader.read(examples, index)
        variables = {"params": state.params, **state.collections}

        def loss(params: Any) -> jax.Array:
            outputs: Any = trial.model.apply({**variables, "params": params}, x)
            return trial.items(values)(outputs, y).mean()

        def summary(array: jax.Array) -> tuple[jax.Array, jax.Array]:
            units = array.reshape(-1, array.shape[-1])
            return jnp.sqrt(jnp.mean(array.astype(jnp.float32) ** 2)), jnp.mean(jnp.all(units == 0, axis=0))

        given = activations(trial.model, variables, x)
        output = given.get(OUTPUT)
        ends = {name: _same(array, output) for name, array in given.items()}
        gradients = by_path(jax.grad(loss)(state.params))
        found = {name: (*summary(array), ends[name]) for name, array in given.items()}
        return found, {name: jnp.sqrt(jnp.mean(g.astype(jnp.float32) ** 2)) for name, g in gradients.items()}

    given, gradients = jax.device_get(look(state, Examples(jnp.asarray(dataset.x), jnp.asarray(dataset.y))))
    rows = [(name, "activation", float(size), float(dead), bool(end)) for name, (size, dead, end) in given.items()]
    rows += [(name, "gradient", float(size), float("nan"), False) for name, size in gradients.items()]
    names = ("layer", "kind", "size", "dead", "output")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def layer_notes(table: Table) -> Iterator[Note]:
    """Yields what is noticed in what `layer_table` gave."""
    rows = list(zip(*(table[name] for name in ("layer", "kind", "size", "dead", "output")), strict=True))
    given = [(name, size, dead) for name, kind, size, dead, _ in rows if kind == "activation"]
    gradients = [(name, size) for name, kind, size, *_ in rows if kind == "gradient"]
    # What gives the outputs may begin at 0: then the loss begins at chance.
    hidden = [(name, size, dead) for name, kind, size, dead, last in rows if kind == "activation" and not last]
    dead = [(name, share) for name, _, share in hidden if share > DEAD]
    if dead:
        name, share = max(dead, key=lambda one: one[1])
        yield Note(
            "dead_units",
            "warning",
            f"{share:.0%} of the units of {name} are 0 for every example",
            "initialise its weights with He's rule and its bias with 0, or use another activation",
        )
    largest = max((size for _, size, _ in given), default=0.0)
    if not np.isfinite(largest) or largest > EXPLODED:
        name = max(given, key=lambda one: one[1] if np.isfinite(one[1]) else np.inf)[0]
        yield Note(
            "exploding_activations",
            "warning",
            f"the activations of {name} have a size of {largest:.3g}",
            "initialise smaller, or add normalisation layers",
        )
    silent = [name for name, size, _ in hidden if size == 0]
    if silent:
        yield Note(
            "silent_layers",
            "warning",
            f"nothing but 0 comes out of {', '.join(silent[:3])}",
            "initialise its weights with small random numbers",
        )
    top = max((size for _, size in gradients if np.isfinite(size)), default=0.0)
    if gradients and top == 0:
        yield Note("vanishing_gradients", "failed", "every gradient is 0", "the loss does not depend on the parameters")
        return
    # A bias alone may have none: it cancels where the classes are balanced, or a norm follows.
    gone = [name for name, size in gradients if size < VANISHED * top and not name.endswith("bias")]
    if gone:
        names = ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
        seen = f"no gradient to speak of comes to {names} (below {VANISHED:g} of the largest)"
        yield Note(
            "vanishing_gradients",
            "warning",
            seen,
            "look for weights that begin at 0, dead units, and parameters that nothing uses",
        )
    if not (dead or silent or gone or largest > EXPLODED):
        low = min(size for _, size in gradients) / top if top else 0.0
        yield Note("layers", "ok", f"{len(given)} layers alive; gradients between {low:.2g} and 1 of the largest")


def _same(one: jax.Array, other: jax.Array | None) -> jax.Array:
    """Returns whether two activations are the same numbers in the same shape."""
    if other is None or one.shape != other.shape:
        return jnp.asarray(False)
    return jnp.all(one == other)
