"""The trial against plain loops: which examples an update uses, what is scheduled, averaged, mixed, masked, perturbed."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import conformance
from hpjax import build, optimizers
from hpjax.batch import Examples
from hpjax.data import create
from hpjax.data.order import example_index
from hpjax.lanes import LaneProgram
from hpjax.placement import Layout

REGRESSION = {"dataset": "synthetic", "task": "regression", "examples": 60, "features": 3, "validation_fraction": 0.2}
LINEAR = {**REGRESSION, "model": "logistic", "optimizer": "sgd", "learning_rate": 0.05}
CLASSES = {"dataset": "synthetic", "examples": 120, "features": 5, "classes": 3}


class Alone:
    """A trial outside of any lane: its pure functions, compiled."""

    def __init__(self, given=None, **changes):
        self.config = conformance.settings(**changes)
        self.dataset = build.load(self.config) if given is None else given
        self.trial = dataclasses.replace(build.trial(self.config, self.dataset), data_axis=None)
        self.values = conformance.scalars(self.config, self.dataset)
        self.examples = Examples(jnp.asarray(self.dataset.x), jnp.asarray(self.dataset.y))
        self.tick = jax.jit(self.trial.tick)
        self.start = jax.jit(self.trial.init)(self.values, self.examples)

    def states(self, ticks):
        """Returns the states before each tick, and that after the last."""
        found = [self.start]
        for _ in range(ticks):
            found.append(self.tick(found[-1], self.values, self.examples))
        return [jax.device_get(state) for state in found]

    def stream(self, ticks):
        """Returns inputs and targets of the examples of the first ticks, float64, tick by tick."""
        size = self.trial.micro_batch_size
        position = jnp.arange(ticks * size, dtype=jnp.uint32)
        index = np.concatenate(
            [example_index(p, self.dataset.splits["train"][1], jnp.uint32(0)) for p in position.reshape(ticks, size)]
        )
        x, y = self.trial.reader.read(self.examples, jnp.asarray(index))
        shape = ticks, size, -1
        return np.asarray(x, np.float64).reshape(shape), np.asarray(y, np.float64).reshape(shape)

    def evaluate(self, state):
        return jax.device_get(self.trial.evaluate(state, self.examples, *map(np.int32, self.dataset.splits["val"])))


def close(actual, expected, bound):
    for (path, a), e in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=bound, atol=bound, err_msg=jax.tree_util.keystr(path))


def line(start, end, time, total):
    return start + (end - start) * min(time, total) / total


@pytest.mark.parametrize(("first", "last"), [(1.0, 4.0), (2.5, 0.5), (0.1, 3.0)])
def test_a_batch_size_schedule_uses_each_example_once_and_in_order(first, last):
    """Time runs in updates of batch_size examples; what is left at the end is an update of fewer."""
    steps, base, rate = 10, 2, 0.05
    text = f"linear(start_factor={first},end_factor={last})"
    one = Alone(**LINEAR, batch_size=4, micro_batch_size=2, train_steps=steps, batch_size_schedule=text, schedule="cosine")
    ticks = steps * base
    states = one.states(ticks + 1)
    x, y = one.stream(ticks)
    (name,) = states[0].params
    weights, bias = (np.asarray(states[0].params[name][leaf], np.float64) for leaf in ("kernel", "bias"))
    tick, size, sizes = 0, max(round(base * line(first, last, 0, steps)), 1), []
    while tick < ticks:
        began, count = tick // base, min(size, ticks - tick)
        inputs, targets = (part[tick : tick + count].reshape(count * 2, -1) for part in (x, y))
        error = inputs @ weights + bias - targets
        factor = (1 + math.cos(math.pi * began / steps)) / 2
        weights = weights - rate * factor * 2 * inputs.T @ error / len(error)
        bias = bias - rate * factor * 2 * error.mean(axis=0)
        tick += count
        sizes.append(2 * count)
        # 5e-7 was seen.
        close(states[tick].params[name], {"bias": bias, "kernel": weights}, 5e-6)
        assert states[tick].last.batch_size == 2 * count
        assert states[tick].last.learning_rate == pytest.approx(rate * factor, rel=1e-6, abs=1e-9)
        assert (states[tick].micro, states[tick].tick) == (0, tick)
        size = max(round(base * line(first, last, tick // base, steps)), 1)
    assert sum(sizes) == steps * 4
    assert len(set(sizes)) > 1
    # The end: nothing changes any more.
    close(states[-1].params, states[-2].params, 0)


def test_the_leftover_of_the_run_is_an_update():
    one = Alone(**LINEAR, batch_size=4, micro_batch_size=2, train_steps=5, batch_size_schedule="constant(start_factor=2)")
    states = one.states(10)
    changed = [not np.array_equal(*(s.params["Dense_0"]["kernel"] for s in pair)) for pair in itertools.pairwise(states)]
    # Batches of four ticks; the last two ticks are what is left.
    assert changed == [i in (3, 7, 9) for i in range(10)]
    assert [states[i].last.batch_size for i in (4, 8, 10)] == [8, 8, 4]


def test_a_batch_grows_on_a_plateau():
    """By hand: an evaluation every 4 ticks, none better than the first; twice as many ticks a step after each, 8 at most."""
    one = Alone(
        **{**LINEAR, "batch_size": 4, "micro_batch_size": 2, "train_steps": 12},
        batch_size_schedule="plateau(gamma=2,plateau_patience=0,max_factor=4)",
    )
    observe = jax.jit(one.trial.observe)
    state, ended, sizes = one.start, [], []
    for tick in range(1, 25):
        before, state = state, one.tick(state, one.values, one.examples)
        if not np.array_equal(before.params["Dense_0"]["kernel"], state.params["Dense_0"]["kernel"]):
            ended.append(tick)
            sizes.append(int(state.last.batch_size))
        if tick % 4 == 0:
            state = observe(state, one.values, {one.trial.observed[0]: jnp.float32(1.0)})
    # The evaluation at tick 8 acts on the step that begins there, that at 12 too; those at 16 and 20 find the highest.
    assert (ended, sizes) == ([2, 4, 6, 8, 12, 20, 24], [4, 4, 4, 4, 8, 16, 8])
    assert one.tick._cache_size() == observe._cache_size() == 1


@pytest.mark.parametrize(("optimizer", "momentum"), [("momentum", "momentum"), ("adamw", "beta1")])
def test_scheduled_decay_and_momentum_act(optimizer, momentum):
    steps = 6
    settings = {"optimizer": optimizer, "learning_rate": 0.01, "weight_decay": 0.5, momentum: 0.8}
    one = Alone(
        **CLASSES,
        **settings,
        micro_batch_size=16,
        train_steps=steps,
        weight_decay_schedule="linear(start_factor=1,end_factor=0.2)",
        momentum_schedule="linear(start_factor=0.5,end_factor=1)",
    )
    states = one.states(steps)
    for t, (before, after) in enumerate(itertools.pairwise(states)):
        decay, mass = 0.5 * line(1, 0.2, t, steps), 0.8 * line(0.5, 1, t, steps)
        values = {**one.values, "weight_decay": np.float32(decay), momentum: np.float32(mass)}
        by_hand = optimizers.transformation(optimizer, np.float32(0.01), values, {}, one.trial.rules)
        updates, _ = by_hand.update(after.gradients, before.optimizer, before.params)
        close(after.params, optax.apply_updates(before.params, updates), 1e-6)
        assert (after.last.weight_decay, after.last.momentum) == pytest.approx((decay, mass), rel=1e-6)
        constant = optimizers.transformation(optimizer, np.float32(0.01), one.values, {}, one.trial.rules)
        if 0 < t < steps:
            updates, _ = constant.update(after.gradients, before.optimizer, before.params)
            with pytest.raises(AssertionError):
                close(after.params, optax.apply_updates(before.params, updates), 1e-6)


def test_averages_are_made_of_every_update_and_evaluated():
    one = Alone(**CLASSES, ema_decay=0.75, micro_batch_size=8, train_steps=4)
    states = one.states(8)
    average = states[0].params
    for state, updated in zip(states[1:], [False, True] * 4, strict=True):
        if updated:
            average = jax.tree.map(lambda a, w: 0.75 * a + 0.25 * w, average, state.params)
        close(state.average, average, 1e-6)
    last = states[-1]
    assert jax.tree.structure(one.trial.evaluated(last)) == jax.tree.structure(last.params)
    close(one.trial.evaluated(last), average, 1e-6)
    plain = dataclasses.replace(one.trial, ema=False)
    start, size = map(np.int32, one.dataset.splits["val"])
    of_average = plain.evaluate(last._replace(params=last.average), one.examples, start, size)
    assert one.evaluate(last)["loss"] == pytest.approx(float(of_average["loss"]), rel=1e-6)
    assert one.evaluate(last)["loss"] != pytest.approx(float(plain.evaluate(last, one.examples, start, size)["loss"]))


@pytest.mark.parametrize("optimizer", ["schedule_free_sgd", "schedule_free_adamw"])
def test_schedule_free_evaluates_its_averages(optimizer):
    one = Alone(**CLASSES, optimizer=optimizer, learning_rate=0.05, micro_batch_size=16, train_steps=6)
    last = one.states(6)[-1]
    averages = optimizers.evaluated(optimizer, last.params, last.optimizer, one.trial.rules)
    assert not np.allclose(averages["Dense_0"]["kernel"], last.params["Dense_0"]["kernel"], rtol=1e-3)
    close(one.trial.evaluated(last), averages, 0)
    start, size = one.dataset.splits["val"]
    x, y = one.trial.reader.read(one.examples, jnp.arange(start, start + size))
    log_p = jax.nn.log_softmax(one.trial.model.apply({"params": averages}, x))
    assert one.evaluate(last)["loss"] == pytest.approx(float(-log_p[jnp.arange(size), y].mean()), rel=1e-6)


def test_sharpness_aware_gradients_are_those_uphill():
    one = Alone(**CLASSES, sam_rho=0.1, micro_batch_size=16, train_steps=4)
    state = one.start
    batch = one.trial.batch(state, one.values, one.examples)

    def loss(params):
        log_p = jax.nn.log_softmax(one.trial.model.apply({"params": params}, batch.x))
        return -log_p[jnp.arange(16), batch.y].mean()

    value, gradient = jax.value_and_grad(loss)(state.params)
    uphill = jax.tree.map(lambda w, g: w + 0.1 / optax.tree.norm(gradient) * g, state.params, gradient)
    found = one.trial.gradients(state, one.values, batch)
    # The loss that is logged is that of the parameters themselves.
    assert found[0] == pytest.approx(float(value), rel=1e-6)
    close(found[-1], jax.grad(loss)(uphill), 1e-6)
    with pytest.raises(AssertionError):
        close(found[-1], gradient, 1e-4)


def test_the_loss_of_mixed_examples():
    one = Alone(**CLASSES, mixup_alpha=0.5, label_smoothing=0.1, micro_batch_size=16, train_steps=4)
    batch = one.trial.batch(one.start, one.values, one.examples)
    loss, measured, *_ = one.trial.gradients(one.start, one.values, batch)
    log_p = np.asarray(jax.nn.log_softmax(one.trial.model.apply({"params": one.start.params}, batch.x)), np.float64)
    target = 0.0
    for labels, share in ((batch.y, batch.share), (batch.other, 1 - batch.share)):
        smooth = 0.9 * np.eye(3)[np.asarray(labels)] + 0.1 / 3
        target = target + np.asarray(share, np.float64)[:, None] * smooth
    assert float(loss) == pytest.approx(-(target * log_p).sum(axis=1).mean(), rel=1e-6)
    # What is logged beside counts the first example's label.
    assert measured["accuracy"] == (log_p.argmax(axis=1) == np.asarray(batch.y)).mean()


@pytest.fixture
def masked(rng):
    """Sequences with a class for each token, half of them masked, by chance."""
    x, y = (rng.integers(3, size=(120, 6)).astype(np.int32) for _ in range(2))
    y.reshape(-1)[rng.permutation(720)[:360]] = -1
    # The first half of the first batch has fewer.
    index = np.asarray(example_index(jnp.arange(8, dtype=jnp.uint32), 80, jnp.uint32(0)))
    y[index, :5] = -1
    return create("masked", train=(x[:80], y[:80]), val=(x[80:100], y[80:100]), test=(x[100:], y[100:]), num_classes=3)


def test_masked_targets_do_not_count_and_shards_have_their_share(masked):
    """The mean is over the items of the whole micro-batch, however many of them a device has."""
    lstm = {"model": "lstm", "width": 8, "depth": 1, "metrics": ("accuracy",)}
    one = Alone(masked, **CLASSES, **lstm, micro_batch_size=16, train_steps=4, label_smoothing=0.1)
    build.check_parts(one.config, masked, one.values)
    assert one.trial.masked
    batch = one.trial.batch(one.start, one.values, one.examples)
    here = np.asarray(batch.y) >= 0
    assert 0 < here[:8].sum() != here[8:].sum() > 0, "else a mean over shards of means would pass"

    def loss(params):
        log_p = jax.nn.log_softmax(one.trial.model.apply({"params": params}, batch.x))
        target = 0.9 * jax.nn.one_hot(batch.y, 3) + 0.1 / 3
        return -(target * log_p).sum(-1)[here].mean()

    value, gradient = jax.value_and_grad(loss)(one.start.params)
    found = []
    for devices in (1, 2):
        program = LaneProgram(one.trial, Layout(data_devices=devices))
        examples, values = program.put_examples(one.examples), program.put_values([one.values])
        states, report = program.chunk(program.init(values, examples), values, examples, 1)
        measured = program.evaluate(states, examples, *masked.splits["val"])
        found.append(float(measured["loss"][0]))
        close(jax.device_get(program.take(states, 0).gradients), gradient, 1e-6)
        assert float(report["loss"][0]) == pytest.approx(float(value), rel=1e-6)
        assert measured["count"][0] == (masked.part("val")[1] >= 0).sum()
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_frozen_parameters_have_no_gradient_and_do_not_move():
    one = Alone(**CLASSES, freeze=("Dense_0",), weight_decay=0.1, l2=0.1, micro_batch_size=16, train_steps=4)
    states = one.states(4)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(states[-1].gradients["Dense_0"]))
    for name, leaf in states[0].params["Dense_0"].items():
        assert states[-1].params["Dense_0"][name].tobytes() == leaf.tobytes()
    assert not np.array_equal(states[-1].params["Dense_1"]["kernel"], states[0].params["Dense_1"]["kernel"])
