"""One batch over several devices: exact in float64, nothing whole on a device, batch norm by the whole batch or by parts."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

import hpjax
from hpjax import build, resolve
from hpjax.batch import Examples
from hpjax.config import Config
from hpjax.lanes import LaneProgram
from hpjax.models import NEVER, Training
from hpjax.optimizers import OPTIMIZERS
from hpjax.placement import Layout
from hpjax.trial import Trial

STEPS = 50


def made(**settings):
    """A resolved config's data, trial and values."""
    config = resolve.resolve(Config(**{"devices": "1", "native": "off", "train_steps": "50", **settings}))
    dataset = build.load(config)
    return (
        dataset,
        build.trial(config, dataset),
        resolve.traced(config, resolve.lengths(config, dataset.splits["train"][1])[0]),
    )


def wide(tree):
    """Floats as float64."""
    return jax.tree.map(lambda leaf: leaf.astype(np.float64) if np.issubdtype(leaf.dtype, np.floating) else leaf, tree)


def steps(part: Trial, shards: int, state, values, examples, ticks: int = 1):
    """Params, optimizer and statistics after `STEPS` steps of so many micro-batches, in the dtype of the state."""
    axis = "data" if shards > 1 else None
    part = Trial(**{**vars(part), "data_axis": axis, "data_shards": shards})

    def step(number, carry):
        params, optimizer, collections = carry
        now = state._replace(params=params, optimizer=optimizer, collections=collections)
        gradients = jax.tree.map(jnp.zeros_like, params)
        for tick in range(ticks):
            now = now._replace(tick=number * ticks + tick)
            _, _, collections, more = part.gradients(now, values, part.batch(now, values, examples))
            gradients = jax.tree.map(jnp.add, gradients, more)
            now = now._replace(collections=collections)
        rates = part.rates(number, number + 1, values, state.plateau)
        now = now._replace(gradients=gradients, tick=now.tick + 1)
        return *part._step(rates, values, jnp.asarray(1.0 / ticks, jnp.float64), now)[:2], now.collections

    def run(params, optimizer, collections):
        return lax.fori_loop(0, STEPS, step, (params, optimizer, collections))

    if shards > 1:
        mesh = Mesh(np.array(jax.devices()[:shards]), ("data",))
        run = jax.shard_map(run, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False)
    return jax.device_get(jax.jit(run)(state.params, state.optimizer, state.collections))


PERCEPTRON = {"hidden_sizes": (12,), "activation": "tanh", "batch_size": 48, "dropout_rate": 0.1}
WITH_BATCH_NORM = {"model": "cnn", "channels": (4,), "hidden_sizes": (12,), "norm": "batch", "activation": "tanh"}
WITH_BATCH_NORM |= {"batch_size": 96, "micro_batch_size": 48}


@pytest.mark.parametrize(
    ("optimizer", "settings", "ticks"),
    [
        *(pytest.param(name, PERCEPTRON, 1, id=name) for name in OPTIMIZERS.names()),
        pytest.param(
            "momentum", {**WITH_BATCH_NORM, "batch_size": 96, "micro_batch_size": 48}, 2, id="batch norm, two ticks"
        ),
    ],
)
def test_in_float64_one_and_eight_devices_agree(optimizer, settings, ticks, rng: np.random.Generator):
    """Each optimizer over 50 steps: what float32 leaves of the difference is rounding, no term that is missing or twice."""
    seed = int(rng.integers(2**31))
    common = {"eval_batch_size": 48, "schedule": "cosine", "warmup": "5"}
    dataset, part, values = made(optimizer=optimizer, seed=seed, **common, **settings)
    alone = Trial(**{**vars(part), "data_axis": None})
    examples = Examples(jnp.asarray(dataset.x), jnp.asarray(dataset.y))
    state = jax.device_get(jax.jit(alone.init)(values, examples))
    with jax.enable_x64(True):
        params = wide(state.params)
        rates = alone.rates(jnp.int32(0), jnp.int32(1), values, state.plateau)
        optimizer = alone._transformation(rates, values).init(params)
        state = state._replace(params=params, optimizer=optimizer, collections=wide(state.collections))
        found = [steps(part, shards, state, values, examples, ticks) for shards in (1, 8)]
    assert bool(found[0][2]) == ("norm" in settings)
    for one, eight in zip(*map(jax.tree.leaves, found), strict=True):
        if np.issubdtype(one.dtype, np.floating):
            assert one.dtype == np.float64
            np.testing.assert_allclose(eight, one, rtol=0, atol=1e-9 * max(np.abs(one).max(), 1.0))
    moved = max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (found[0][0], params)), strict=True))
    assert moved > 1e-6, "nothing was trained"


MODELS = {
    "mlp": {"hidden_sizes": (24,)},
    "cnn": {"channels": (6,), "hidden_sizes": (24,)},
    "resnet": {"depth": 8, "channels": (6, 8, 10)},
}
SHARE, SHARDS = 13, 8
"""Examples a device; no size of the models is a multiple of it."""


@pytest.mark.parametrize("shared_out", [False, True], ids=["whole state", "shared out"])
@pytest.mark.parametrize("name", MODELS)
def test_nothing_gathers_the_batch_on_a_device(name, shared_out):
    """The compiled chunk and evaluation have no array of a whole batch, and no collective but sums."""
    if shared_out and name != "mlp":
        pytest.skip("once is enough")
    size = SHARE * SHARDS
    settings = {"batch_size": size, "micro_batch_size": size, "eval_batch_size": size, **MODELS[name]}
    dataset, part, values = made(model=name, optimizer="adamw", shard_optimizer_state=shared_out, **settings)
    program = LaneProgram(part, Layout(data_devices=SHARDS))
    examples = program.put_examples(Examples(dataset.x, dataset.y))
    stacked = program.put_values([values])
    states = program.init(stacked, examples)
    chunk = program.compiled_chunk(states, stacked, examples).as_text()
    start, count = np.zeros(1, np.int32), np.full(1, 10, np.int32)
    evaluate = program._evaluate.lower(states, start, count, examples, np.int32(10)).compile().as_text()
    for text in (chunk, evaluate):
        assert "all-reduce" in text
        for collective in ("all-to-all", "collective-permute"):
            assert collective not in text
        gathers = re.findall(r"= *\(?(\S+) all-gather", text)
        if not shared_out or text is evaluate:
            assert gathers == []
        # The parameters' parts alone, after the step, all together.
        all_parts = sum(-(-int(np.prod(leaf.shape[1:])) // SHARDS) for leaf in jax.tree.leaves(states.params))
        for shape in gathers:
            elements = np.prod([int(n) for n in re.search(r"\[([\d,]*)\]", shape)[1].split(",")])
            assert elements <= all_parts * SHARDS
        sizes = {int(n) for shape in re.findall(r"(?:f32|bf16|s32|u8|pred)\[([\d,]+)\]", text) for n in shape.split(",")}
        assert SHARE in sizes, "the test looks for the wrong sizes"
        assert size not in sizes


def gradients_on(part: Trial, shards: int, state, values, examples):
    part = Trial(**{**vars(part), "data_axis": "data", "data_shards": shards})
    mesh = Mesh(np.array(jax.devices()[:shards]), ("data",))

    def gradients(state, values, examples):
        return part.gradients(state, values, part.batch(state, values, examples))

    whole = PartitionSpec()
    mapped = jax.shard_map(gradients, mesh=mesh, in_specs=(whole,) * 3, out_specs=whole, check_vma=False)
    return jax.device_get(jax.jit(mapped)(state, values, examples))


def test_ghost_batch_norm_is_that_of_each_device(rng: np.random.Generator):
    """Loss, gradients and running averages on two devices are the mean of those of the two halves, each by itself.

    That batch norm itself is torch's, `tests/test_norms.py` holds.
    """
    settings = {"model": "resnet", "depth": 8, "channels": (4, 4, 4), "batch_size": 24, "eval_batch_size": 24}
    dataset, part, values = made(**settings, ghost_batch_norm=True, seed=int(rng.integers(2**31)))
    assert part.ghost_batch_norm
    examples = Examples(dataset.x, dataset.y)
    alone = Trial(**{**vars(part), "data_axis": None})
    state = jax.device_get(jax.jit(alone.init)(values, examples))
    found = gradients_on(part, 2, state, values, examples)
    batch = jax.device_get(jax.jit(alone.batch)(state, values, examples))

    def of_half(half):
        apply = functools.partial(alone.model.apply, mutable=["batch_stats"])

        def loss(params):
            training = Training(batch.position[half], NEVER, NEVER, None)
            variables = {"params": params, **state.collections}
            outputs, after = apply(variables, batch.x[half], training, rngs={"dropout": jax.random.key(0)})
            return alone.items(values)(outputs, batch.y[half]).mean(), (outputs, after)

        return jax.device_get(jax.jit(jax.value_and_grad(loss, has_aux=True))(state.params))

    halves = [of_half(slice(0, 12)), of_half(slice(12, 24))]
    mean = lambda *trees: jax.tree.map(lambda a, b: (a + b) / 2, *trees)  # noqa: E731
    assert found[0] == pytest.approx(np.mean([half[0][0] for half in halves]), rel=1e-6)
    for actual, expected in ((found[3], mean(halves[0][1], halves[1][1])), (found[2], mean(*(h[0][1][1] for h in halves)))):
        for a, e in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
            np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-6)
    # With statistics of the whole batch it is another gradient.
    whole = gradients_on(Trial(**{**vars(part), "ghost_batch_norm": False}), 2, state, values, examples)
    apart = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (found[3], whole[3])), strict=True)]
    assert max(apart) > 1e-4


def test_ghost_batch_norm_needs_batch_norm():
    with pytest.raises(hpjax.HpjaxError, match="ghost_batch_norm is true, but norm is group; expected it with norm batch"):
        resolve.resolve(Config(ghost_batch_norm=True, model="resnet", norm="group"))
