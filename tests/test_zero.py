"""An optimizer's state shared out over devices: the same training, a part of the memory, checkpoints that fit any number."""

import jax
import numpy as np
import pytest

import hpjax
import whole_runs as runs
from hpjax import build, resolve, zero
from hpjax.batch import Examples
from hpjax.config import Config
from hpjax.lanes import LaneProgram
from hpjax.optimizers import OPTIMIZERS
from hpjax.placement import Layout

SHARDS, TICKS = 8, 6
OWN = {"hidden_sizes": (13,), "batch_size": 32, "micro_batch_size": 16, "train_steps": "3", "devices": "1"}
SCHEDULE_FREE = tuple(name for name in OPTIMIZERS.names() if name.startswith("schedule_free"))


def program_of(optimizer: str, shared_out: bool, **settings):
    given = {"weight_decay": 1e-2, "native": "off", "log_every": "1", "eval_every": "3", **OWN, **settings}
    config = resolve.resolve(Config(optimizer=optimizer, shard_optimizer_state=shared_out, **given))
    dataset = build.load(config)
    scalars = resolve.traced(config, resolve.lengths(config, dataset.splits["train"][1])[0])
    program = LaneProgram(build.trial(config, dataset), Layout(data_devices=SHARDS))
    examples = program.put_examples(Examples(dataset.x, dataset.y))
    values = program.put_values([scalars])
    return program, values, examples


def trained(program, values, examples, ticks=TICKS, state=None):
    states = program.init(values, examples)
    if state is not None:
        states = program.put(states, 0, state)
    states, report = program.chunk(states, values, examples, ticks)
    return states, jax.device_get(program.take(states, 0)), jax.device_get(report)


def distance(actual, expected) -> float:
    flat = [
        np.concatenate([[0.0], *(np.ravel(leaf).astype(float) for leaf in jax.tree.leaves(t))]) for t in (actual, expected)
    ]
    return float(np.linalg.norm(flat[0] - flat[1]) / max(np.linalg.norm(flat[1]), 1e-30))


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.5}], ids=["plain", "clipped"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw", "amsgrad", "adafactor", "lars", "muon", "lion"])
def test_it_trains_as_if_every_device_had_all_of_it(optimizer, settings):
    if settings and optimizer not in ("adamw", "momentum", "lars"):
        pytest.skip("three optimizers are enough")
    _, whole, report = trained(*program_of(optimizer, False, **settings))
    program, values, examples = program_of(optimizer, True, **settings)
    states, shared, other = trained(program, values, examples)
    assert jax.tree.structure(shared) == jax.tree.structure(whole)
    assert all(
        a.shape == b.shape and a.dtype == b.dtype for a, b in zip(*map(jax.tree.leaves, (shared, whole)), strict=True)
    )
    for part in ("params", "optimizer"):
        assert distance(getattr(shared, part), getattr(whole, part)) < 2e-6, part
    for name in report:
        np.testing.assert_allclose(other[name], report[name], rtol=1e-5, atol=1e-6, err_msg=name)
    # What lies on a device is an eighth, but for what fills up.
    for leaf, full in zip(jax.tree.leaves(states.optimizer), jax.tree.leaves(whole.optimizer), strict=True):
        sizes = {shard.data.size for shard in leaf.addressable_shards}
        assert sizes == {-(-full.size // SHARDS)}
    # A checkpoint of whole arrays goes on alike.
    _, half, _ = trained(program, values, examples, ticks=4)
    _, resumed, _ = trained(program, values, examples, ticks=2, state=half)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*map(jax.tree.leaves, (resumed, shared)), strict=True))
    assert program.traces["chunk"] == program.traces["put"] == program.traces["take"] == 1


def test_what_treats_elements_by_themselves():
    """Found by trying: of a gradient that is 0 but for one element, only that element's step depends on it."""
    for name in OPTIMIZERS.names():
        if name in SCHEDULE_FREE:
            continue
        rng = np.random.default_rng(1)
        params = {"w": rng.normal(size=(6, 4)).astype(np.float32)}
        gradients = {"w": rng.normal(size=(6, 4)).astype(np.float32)}
        other = {"w": gradients["w"].copy()}
        other["w"][3, 2] *= 3.0
        optimizer = hpjax.optimizers.create(name, 0.1)
        steps = []
        for given in (gradients, other):
            state = optimizer.init(params)
            for _ in range(2):
                updates, state = optimizer.update(given, state, params)
            steps.append(np.asarray(updates["w"]))
        changed = steps[0] != steps[1]
        changed[3, 2] = False
        assert changed.any() != zero.elementwise(name, {}, ()), name


def test_a_run_with_it_goes_on_without_several_devices(tmp_path, capsys):
    settings = {"optimizer": "adamw", "learning_rate": 0.01, "shard_optimizer_state": True, "train_steps": "20"}
    whole = hpjax.run(runs.config(tmp_path / "whole", **settings, devices="2"))
    with runs.killed_before(11):
        hpjax.run(runs.config(tmp_path / "run", **settings, devices="2"))
    result = hpjax.run(runs.config(tmp_path / "run", **settings, devices="1"))
    assert "this run was begun elsewhere (data_devices 2 -> 1)" in capsys.readouterr().out
    assert distance(result.params, whole.params) < 1e-5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "schedule_free_adamw"}, "shard_optimizer_state is true; expected false for 'schedule_free_adamw'"),
        ({"parallel": "pmap"}, "shard_optimizer_state is true; expected parallel=shard_map, not pmap"),
    ],
)
def test_refused(settings, message):
    with pytest.raises(hpjax.HpjaxError) as caught:
        resolve.resolve(Config(shard_optimizer_state=True, **settings))
    assert message in str(caught.value)
