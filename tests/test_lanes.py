"""The lane program: what may vary in it, how often it compiles, and what it refuses."""

import jax
import numpy as np
import pytest

from hpjax import build, moves, resolve
from hpjax.batch import Examples
from hpjax.config import Config
from hpjax.devices import cores
from hpjax.lanes import LaneProgram
from hpjax.ops import native
from hpjax.placement import Layout

TICKS = 8
CHANGES = {
    "learning_rate": 0.02,
    "beta1": 0.5,
    "beta2": 0.9,
    "epsilon": 1e-2,
    "weight_decay": 0.3,
    "l2": 0.3,
    "momentum": 0.5,
    "trust_coefficient": 0.01,
    "clip_norm": 0.05,
    "dropout_rate": 0.4,
    "label_smoothing": 0.3,
    "accumulation": 2,
    "train_steps": 5,
    "seed": 9,
    "data_seed": 9,
}


def make(optimizer, **changes):
    settings = {"optimizer": optimizer, "hidden_sizes": (16,), "batch_size": 32, "train_steps": TICKS, "learning_rate": 0.01}
    settings = {
        "schedule": "cosine",
        "warmup": 2,
        "log_every": 4,
        "weight_decay": 0.1,
        "l2": 0.0,
        "clip_norm": np.inf,
        # A rate of 0 would be no part of the program.
        "dropout_rate": 0.1,
        **settings,
        **changes,
    }
    config = resolve.resolve(Config(**settings))
    dataset = build.load(config)
    return build.trial(config, dataset), dataset, resolve.traced(config, resolve.lengths(config, 1000)[0])


@pytest.mark.parametrize(
    ("layout", "alone"),
    [({}, True), ({"lanes": 2}, True), ({"lanes": 2, "lane_devices": 2}, False), ({"data_devices": 2}, False)],
)
def test_only_a_program_on_one_device_uses_several_threads(layout, alone):
    trial, _, _ = make("adamw")
    program, seen = LaneProgram(trial, Layout(**layout)), []
    mapped = program._mapped("seen", lambda states: seen.append(native.threads()) or states, lanewise=1)
    mapped.lower(np.zeros(layout.get("lanes", 1), np.float32))
    assert seen == [cores() if alone else 1]


@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "lars"])
def test_every_value_is_traced(optimizer):
    """One program holds a lane for each value changed alone; each change shows in its lane, and nothing compiles twice."""
    trial, dataset, base = make(optimizer)
    used = set(resolve.PARTS["optimizer"].settings(optimizer))
    unused = {"momentum", "beta1", "beta2", "epsilon", "l2", "trust_coefficient"} - used
    changes = {name: value for name, value in CHANGES.items() if name not in unused}
    lanes = [base] + [{**base, name: base[name].dtype.type(value)} for name, value in changes.items()]
    # Other schedules, and other values of each.
    scheduled = [
        {"schedule": "step(step_size=3)"},
        {"schedule": "step(step_size=2)"},
        {"schedule": "step(step_size=3,gamma=0.7)"},
        {"warmup": 5},
        {"warmup_start_factor": 0.7},
        {"schedule": "cosine(end_factor=0.5)"},
        {"schedule": "linear:3, constant(start_factor=0.5)"},
    ]
    lanes += [make(optimizer, **changed)[2] for changed in scheduled]
    program = LaneProgram(trial, Layout(lanes=len(lanes)))
    examples = program.put_examples(Examples(dataset.x, dataset.y))
    for turn in (lanes, lanes[::-1]):
        values = program.put_values(turn)
        states, _ = program.chunk(program.init(values, examples), values, examples, TICKS)
    assert program.traces == {"init": 1, "chunk": 1}
    params = jax.tree.leaves(jax.device_get(states.params))
    ends = [np.concatenate([leaf[lane].ravel() for leaf in params]) for lane in range(len(lanes))][::-1]
    for name, end in zip(changes, ends[1 : -len(scheduled)], strict=True):
        assert not np.array_equal(end, ends[0]), name
    for i, end in enumerate(ends[-len(scheduled) :]):
        assert all(not np.array_equal(end, other) for other in ends[: len(ends) - len(scheduled) + i]), scheduled[i]


def test_one_compile_each(monkeypatch):
    """Whatever values, lanes, lengths and splits come: init, chunk, evaluate, take, put and refill compile once each."""
    compiled = []

    def listen(event, duration, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    trial, dataset, base = make("adamw")
    program = LaneProgram(trial, Layout(lanes=4, lane_devices=2))
    examples = program.put_examples(Examples(dataset.x, dataset.y))

    def use(seed, ticks, split):
        values = program.put_values([{**base, "seed": np.uint32(seed + i)} for i in range(4)])
        states, report = program.chunk(program.init(values, examples), values, examples, ticks)
        states = program.refill(states, values, examples, np.arange(4) == seed % 4)
        states = program.put(states, seed % 4, program.take(states, (seed + 1) % 4))
        jax.block_until_ready((report, program.evaluate(states, examples, *dataset.splits[split])))

    use(0, 3, "val")
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for seed, ticks, split in ((1, 1, "test"), (2, 7, "train"), (3, 0, "val")):
            use(seed, ticks, split)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []
    assert program.traces == dict.fromkeys(("init", "chunk", "refill", "take", "put", "evaluate"), 1)


def test_states_are_donated():
    trial, dataset, base = make("momentum")
    program = LaneProgram(trial, Layout(lanes=2, lane_devices=2))
    examples, values = program.put_examples(Examples(dataset.x, dataset.y)), program.put_values([base] * 2)
    before = program.init(values, examples)
    after, _ = program.chunk(before, values, examples, 1)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))
    kept = program.take(after, 0)
    program.chunk(after, values, examples, 1)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(kept))


def test_finished_lanes_stand_still():
    """A lane whose trial has ended keeps its state, report included, while its neighbours go on; in a vmap group too."""
    trial, dataset, base = make("adamw")
    short = {**base, "train_steps": np.int32(3)}
    for layout in (Layout(lanes=2), Layout(lanes=2, width=2)):
        program = LaneProgram(trial, layout)
        examples, values = program.put_examples(Examples(dataset.x, dataset.y)), program.put_values([short, base])
        states, first = program.chunk(program.init(values, examples), values, examples, 3)
        kept = jax.device_get(program.take(states, 0))
        states, second = program.chunk(states, values, examples, 5)
        now = jax.device_get(program.take(states, 0))
        kept, now = kept._replace(gradients=None), now._replace(gradients=None)
        for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(now), strict=True):
            assert a.tobytes() == b.tobytes()
        assert second["tick"].tolist() == [3, 8]
        assert second["loss"][0] == first["loss"][0]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"lanes": 3, "width": 2}, "3 lanes do not divide into width 2 on 1 devices"),
        ({"lanes": 4, "lane_devices": 2, "data_devices": 2, "parallel": "pmap"}, "pmap maps one axis"),
    ],
)
def test_layout_refuses(layout, message):
    with pytest.raises(ValueError, match=message):
        Layout(**layout)


def test_program_refuses_missing_devices_and_values():
    trial, _, base = make("momentum")
    with pytest.raises(ValueError, match="needs 16 devices, there are 8"):
        LaneProgram(trial, Layout(lanes=16, lane_devices=16))
    with pytest.raises(ValueError, match="1 trials for 2 lanes"):
        LaneProgram(trial, Layout(lanes=2)).put_values([base])


@pytest.mark.parametrize("at_once", [1, 2**28])
def test_what_other_processes_are_told_is_what_lies_on_the_devices(at_once, monkeypatch, rng):
    """The exchanges between processes, among the devices of one: bit for bit, also of -0.0 and NaN."""
    monkeypatch.setattr(moves, "BYTES_AT_ONCE", at_once)
    trial, dataset, base = make("adamw", hidden_sizes=(8,))
    program = LaneProgram(trial, Layout(lanes=6, lane_devices=3))
    program.spans = True
    values = program.put_values([{**base, "seed": np.int32(seed)} for seed in range(6)])
    examples = program.put_examples(build.examples(dataset))
    states = program.init(values, examples)
    report = program.chunk(program.init(values, examples), values, examples, 0)[1]
    assert all(leaf.sharding.is_fully_replicated for leaf in report.values())
    odd = rng.choice(np.array([-0.0, np.nan, np.inf, 1e-40, 1.0], np.float32), (6, 7))
    given = {"odd": odd, "flags": odd > 0, "small": odd.astype(np.float16)}
    tree = {"states": states, "given": jax.device_put(given, states.tick.sharding)}
    whole = jax.device_get(tree)
    assert _bits(program.fetch(tree)) == _bits(whole)
    for lane in rng.permutation(6)[:2]:
        of_lane = jax.tree.map(lambda leaf, lane=lane: leaf[lane], whole)
        assert _bits(program.fetch_one(tree, lane)) == _bits(of_lane)
        assert _bits(program.take(states, lane)) == _bits(of_lane["states"])


def _bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
