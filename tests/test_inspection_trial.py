"""Looking inside a trial: against what its tick does, a dense Hessian and NumPy, over shards and lanes, without a trace."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import conformance
from hpjax import build
from hpjax.batch import Examples
from hpjax.data.order import example_index
from hpjax.inspection.histograms import Histogram, histogram
from hpjax.inspection.layers import activations, by_path
from hpjax.inspection.measure import on_host
from hpjax.inspection.settings import INSPECTIONS, Inspections
from hpjax.lanes import LaneProgram
from hpjax.placement import Layout

ASKED = Inspections(tuple(INSPECTIONS), examples=50, iterations=24, values=3)
"""More examples than an evaluation batch, and no multiple of it."""


class Setup:
    """A small trial of two lanes, some ticks into its training."""

    def __init__(self, ticks: int = 5, **layout: Any):
        config = conformance.settings(eval_batch_size=32, label_smoothing=0.1, dropout_rate=0.2, train_steps=50, log_every=1)
        dataset = build.load(config)
        self.scalars = conformance.scalars(config, dataset)
        self.program = LaneProgram(build.trial(config, dataset), Layout(lanes=2, **layout))
        self.values = self.program.put_values([self.scalars, conformance.perturbed(self.scalars, ())])
        self.examples = self.program.put_examples(Examples(dataset.x, dataset.y))
        self.states = self.program.init(self.values, self.examples)
        self.states, _ = self.program.chunk(self.states, self.values, self.examples, ticks)

    def inspect(self) -> Any:
        return self.program.inspect(self.states, self.values, self.examples, ASKED)

    def state(self, lane: int) -> Any:
        return self.program.take(self.states, lane)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup()


@pytest.fixture(scope="module")
def found(setup: Setup) -> list[tuple[dict[str, float], dict[str, Histogram]]]:
    measured = setup.inspect()
    return [on_host(measured, lane) for lane in range(2)]


def whole(numbers: dict[str, float], kind: str) -> float:
    return float(np.linalg.norm([value for name, value in numbers.items() if name.startswith(f"{kind}/")]))


def test_norms_are_those_of_the_update_that_comes_next(setup: Setup, found: Any) -> None:
    states = jax.tree.map(jnp.copy, setup.states)
    # Tick 5 is the first of two of a step: the sixth completes it.
    _, report = setup.program.chunk(states, setup.values, setup.examples, 1)
    for lane, (numbers, _) in enumerate(found):
        np.testing.assert_allclose(whole(numbers, "gradient_norm"), report["last/gradient"][lane], rtol=1e-5)
        # Differences of the parameters carry their rounding.
        np.testing.assert_allclose(whole(numbers, "update_norm"), report["last/update"][lane], rtol=1e-4)


def test_norms_of_parameters_and_activations(setup: Setup, found: Any) -> None:
    state, (numbers, _) = jax.device_get(setup.state(1)), found[1]
    for path, leaf in by_path(state.params).items():
        np.testing.assert_allclose(numbers[f"parameter_norm/{path}"], np.linalg.norm(leaf), rtol=1e-5)
        np.testing.assert_allclose(numbers[f"parameter_max/{path}"], np.abs(leaf).max())
        ratio = numbers[f"update_norm/{path}"] / numbers[f"parameter_norm/{path}"]
        np.testing.assert_allclose(numbers[f"update_ratio/{path}"], ratio, rtol=1e-5)
    trial, values = setup.program.trial, {name: value[1] for name, value in setup.values.items()}
    x = trial.batch(state, values, setup.examples).x
    layers = activations(trial.model, {"params": state.params}, x)
    assert "Dense_0" in layers and "output" in layers
    assert not any("Dropout" in name for name in layers)
    for name, array in layers.items():
        np.testing.assert_allclose(numbers[f"activation_rms/{name}"], np.sqrt(np.mean(np.square(array))), rtol=1e-5)
        np.testing.assert_allclose(numbers[f"activation_zeros/{name}"], np.mean(np.asarray(array) == 0), rtol=1e-6)
    assert 0 < numbers["activation_zeros/Dense_0"] < 1, "a ReLU's output is 0 somewhere"


def test_histograms_are_those_of_the_same_arrays(setup: Setup, found: Any) -> None:
    state, (numbers, histograms) = setup.state(0), found[0]
    for path, leaf in by_path(state.params).items():
        np.testing.assert_array_equal(histograms[f"parameter/{path}"].counts, histogram(leaf).counts)
        for kind in ("gradient", "update"):
            table = histograms[f"{kind}/{path}"]
            assert table.counts.sum() == leaf.size
            np.testing.assert_allclose(np.sqrt(table.sum_squares), numbers[f"{kind}_norm/{path}"], rtol=1e-5)
    assert {name.partition("/")[0] for name in histograms} == {"gradient", "update", "parameter", "activation"}


def test_noise_scale_is_numpys_from_the_next_micro_batches(setup: Setup, found: Any) -> None:
    trial, state = setup.program.trial, setup.state(0)
    values = {name: value[0] for name, value in setup.values.items()}
    size, number = trial.micro_batch_size, 7  # of 8 examples: 50 of them at least

    @jax.jit
    def gradient(i: jax.Array) -> jax.Array:
        now = state._replace(tick=state.tick + i)
        return ravel_pytree(trial.gradients(now, values, trial.batch(now, values, setup.examples))[3])[0]

    g = np.stack([gradient(jnp.int32(i)) for i in range(number)]).astype(np.float64)
    noise = size * g.var(axis=0, ddof=1).sum()
    signal = (g.mean(axis=0) ** 2).sum() - noise / (size * number)
    numbers, _ = found[0]
    np.testing.assert_allclose(numbers["noise_scale/noise"], noise, rtol=1e-4)
    np.testing.assert_allclose(numbers["noise_scale/gradient"], signal, rtol=1e-3)
    np.testing.assert_allclose(numbers["noise_scale"], noise / signal if signal > 0 else np.inf, rtol=1e-3)


def test_sharpness_is_the_dense_hessians(setup: Setup, found: Any) -> None:
    trial, state = setup.program.trial, jax.device_get(setup.state(1))
    scalars = conformance.perturbed(setup.scalars, ())
    index = example_index(np.arange(50, dtype=np.uint32), trial.reader.train_size, scalars["data_seed"])
    x, y = jax.device_get(trial.reader.read(setup.examples, index))
    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), state.params))
        inputs, target = jnp.asarray(x, jnp.float64), 0.9 * jax.nn.one_hot(y, 10, dtype=jnp.float64) + 0.01

        @jax.jit
        def dense(v: jax.Array) -> jax.Array:
            def loss(v: jax.Array) -> jax.Array:
                return -(target * jax.nn.log_softmax(trial.model.apply({"params": unravel(v)}, inputs))).sum(axis=1).mean()

            return jnp.linalg.eigvalsh(jax.hessian(loss)(v))[::-1][:3]

        expected = np.asarray(dense(flat))
    numbers, _ = found[1]
    for i, value in enumerate(expected, 1):
        error = numbers[f"sharpness_error/{i}"]
        assert abs(numbers[f"sharpness/{i}"] - value) <= error + 1e-5 * expected[0], (i, error)
    np.testing.assert_allclose(numbers["sharpness/1"], expected[0], rtol=2e-5)


def test_nothing_is_changed_and_nothing_compiles_again(setup: Setup, found: Any) -> None:
    before = jax.device_get(setup.states)
    again = on_host(setup.inspect())
    conformance.assert_same(jax.device_get(setup.states), before)
    assert repr(again) == repr(found[0]), "the same state gives the same bits"
    later, _ = setup.program.chunk(jax.tree.map(jnp.copy, setup.states), setup.values, setup.examples, 3)
    setup.program.inspect(later, setup.values, setup.examples, ASKED)
    assert setup.program.traces["inspect"] == setup.program.traces["chunk"] == 1


@pytest.mark.parametrize("layout", [{"data_devices": 2, "width": 2}, {"data_devices": 2, "parallel": "pmap"}], ids=str)
def test_layouts_find_the_same(found: Any, layout: dict[str, Any]) -> None:
    other = Setup(**layout)
    measured = other.inspect()
    for lane in range(2):
        numbers, histograms = on_host(measured, lane)
        for name, value in found[lane][0].items():
            # Errors are differences of nearly equal numbers; zeros are counted.
            tolerance = 5e-2 if "error" in name else 2e-3
            np.testing.assert_allclose(numbers[name], value, rtol=tolerance, atol=1e-4, err_msg=name)
        for name, table in found[lane][1].items():
            assert histograms[name].counts.sum() == table.counts.sum(), name
            moved = np.abs(np.cumsum(histograms[name].counts - table.counts)).max()
            assert moved <= max(2, 0.02 * table.counts.sum()), name
