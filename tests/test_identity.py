"""The identity matrix: what may not change one bit of a trial, and by how much the rest may."""

import jax
import numpy as np
import pytest

import hpjax
from hpjax import build, resolve
from hpjax.batch import Examples
from hpjax.config import Config
from hpjax.lanes import LaneProgram
from hpjax.placement import Layout

TICKS = 12
MODELS = {"mlp": {"hidden_sizes": (16, 16)}, "cnn": {"channels": (4,), "hidden_sizes": (16,)}}
SCHEDULE_SETTINGS = {"cosine": {"end_factor": 0.1}, "step": {"step_size": "2"}}


def make_config(model, optimizer, schedule, **changes):
    settings = {
        "model": model,
        "optimizer": optimizer,
        "schedule": schedule,
        "batch_size": 32,
        "micro_batch_size": 16,
        "train_steps": TICKS // 2,
        "warmup": 2,
        "eval_every": 3,
        "log_every": 3,
        "eval_batch_size": 64,
        "dropout_rate": 0.2,
        "label_smoothing": 0.1,
        "weight_decay": 1e-2,
        "clip_norm": 1.0,
        "seed": 3,
        "devices": 1,
        "tensorboard": False,
        "progress": False,
        **MODELS[model],
        **SCHEDULE_SETTINGS.get(schedule, {}),
    }
    return resolve.resolve(Config(**{**settings, **changes}))


def values_of(config, dataset):
    return resolve.traced(config, resolve.lengths(config, dataset.splits["train"][1])[0])


class Bench:
    """Programs of one model and optimizer in several layouts, compiled once."""

    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
        config = make_config(model, optimizer, "constant")
        self.dataset = build.load(config)
        self.trial = build.trial(config, self.dataset)
        self.programs = {}

    def program(self, **layout):
        key = tuple(sorted(layout.items()))
        if key not in self.programs:
            self.programs[key] = LaneProgram(self.trial, Layout(**layout))
        return self.programs[key]

    def values(self, schedule="cosine", **changes):
        return values_of(make_config(self.model, self.optimizer, schedule, **changes), self.dataset)

    def run(self, lanes, chunks=(TICKS,), lane=0, **layout):
        """Returns one lane's state and evaluation after chunks of ticks."""
        program = self.program(lanes=len(lanes), **layout)
        examples = program.put_examples(Examples(self.dataset.x, self.dataset.y))
        values = program.put_values(lanes)
        states = program.init(values, examples)
        for ticks in chunks:
            states, _ = program.chunk(states, values, examples, ticks)
        measured = program.evaluate(states, examples, *self.dataset.splits["val"])
        return jax.device_get((program.take(states, lane), {name: value[lane] for name, value in measured.items()}))


PAIRS = (("mlp", "lars"), ("cnn", "adamw"))
"""Model and optimizer; what else is registered goes through the conformance table."""


def combinations():
    """The tests of a pair share its programs, so one worker runs them all."""
    return [pytest.param(pair, id="-".join(pair), marks=pytest.mark.xdist_group("-".join(pair))) for pair in PAIRS]


@pytest.fixture(scope="module", params=combinations())
def bench(request):
    return Bench(*request.param)


def assert_same_bits(actual, expected):
    for (path, a), e in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype, jax.tree_util.keystr(path)
        assert a.tobytes() == e.tobytes(), f"{jax.tree_util.keystr(path)} differs by {np.abs(a - e).max()}"


def same(values, others):
    return all(np.array_equal(values[name], others[name]) for name in values)


def test_lane_position_count_and_neighbours(bench):
    schedules = ("constant", "cosine", "step")
    alone = {name: bench.run([bench.values(name)]) for name in schedules}
    assert alone["constant"][0].diverged_at == -1
    others = [bench.values("cosine", seed=seed, learning_rate=0.003 * (seed + 1)) for seed in range(8)]
    broken = {**others[0], "learning_rate": np.float32(np.nan)}
    for layout in ({"lanes": 3, "lane_devices": 3}, {"lanes": 8, "lane_devices": 2}):
        count = layout.pop("lanes")
        lanes = others[: count - len(schedules)] + [bench.values(name) for name in schedules]
        for neighbours in (lanes, [broken] * (count - 3) + lanes[count - 3 :], lanes[::-1]):
            for name in schedules:
                # The trial's own lane, wherever this arrangement put it.
                place = next(i for i, lane in enumerate(neighbours) if same(lane, bench.values(name)))
                assert_same_bits(bench.run(neighbours, lane=place, **layout), alone[name])


def test_nan_neighbour_really_diverges(bench):
    broken = {**bench.values("cosine", seed=1), "learning_rate": np.float32(np.nan)}
    lanes = [broken, bench.values(), bench.values("step")]
    state, _ = bench.run(lanes, lane=0, lane_devices=3)
    assert state.diverged_at == 1


def test_chunk_length(bench):
    whole = bench.run([bench.values()])
    for chunks in ((1,) * TICKS, (5, 0, 4, 3), (TICKS, 7)):
        assert_same_bits(bench.run([bench.values()], chunks), whole)


def test_pmap(bench):
    for layout in ({"data_devices": 1}, {"data_devices": 2}):
        expected = bench.run([bench.values()], **layout)
        assert_same_bits(bench.run([bench.values()], parallel="pmap", **layout), expected)


def test_pmap_over_lanes(bench):
    lanes = [bench.values("cosine", seed=seed) for seed in range(4)]
    for lane in range(4):
        actual = bench.run(lanes, lane=lane, lane_devices=2, parallel="pmap")
        assert_same_bits(actual, bench.run([lanes[lane]]))


def test_take_put_and_refill(bench):
    """A trial that moves to another lane and device in mid-run, and one that refills a lane, end like undisturbed ones."""
    mine, other = bench.values("cosine", seed=5), bench.values("step", seed=6)
    program = bench.program(lanes=8, lane_devices=2)
    examples = program.put_examples(Examples(bench.dataset.x, bench.dataset.y))
    values = program.put_values([mine] + [other] * 7)
    states, _ = program.chunk(program.init(values, examples), values, examples, 5)
    state = jax.device_get(program.take(states, 0))
    states = program.put(states, 6, state)
    values = program.put_values([mine] * 3 + [other] * 3 + [mine] * 2)
    states = program.refill(states, values, examples, np.arange(8) == 2)
    states, _ = program.chunk(states, values, examples, TICKS)
    expected = bench.run([mine])[0]
    assert_same_bits(jax.device_get(program.take(states, 6)), expected)
    assert_same_bits(jax.device_get(program.take(states, 2)), expected)
    assert_same_bits(jax.device_get(program.take(states, 5)), bench.run([other])[0])


def test_hpjax_run_is_the_lane_program(bench, tmp_path):
    config = make_config(bench.model, bench.optimizer, "step", run_dir=str(tmp_path / "run"), objective_value="last")
    result = hpjax.run(config)
    lanes = [bench.values("cosine", seed=seed) for seed in range(7)] + [values_of(config, bench.dataset)]
    state, measured = bench.run(lanes, lane=7, lane_devices=2)
    assert_same_bits(result.params, state.params)
    assert result.objective == measured["accuracy"]


# Relative to the reference, per tick from one and the same state; measured maxima are in BUILD_NOTES.md.
GRADIENT_BOUND = 1e-6
UPDATE_BOUND = 2e-5


def relative(actual, expected):
    flat = [np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(tree)]) for tree in (actual, expected)]
    return np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1])


@pytest.mark.parametrize(
    "layout",
    [{"width": 4}, {"data_devices": 8}, {"width": 2, "lane_devices": 2, "data_devices": 4}],
    ids=str,
)
def test_bound_a_tick_across_width_and_mesh(bench, layout):
    """A step in another layout gives the same gradients and the same update up to rounding, whatever the device count."""
    lanes = layout.get("width", 1) * layout.get("lane_devices", 1)
    value = bench.values("cosine", warmup=0)
    reference = bench.program(lanes=1)
    other = bench.program(lanes=lanes, **layout)

    def after(program, count, state, ticks):
        examples = program.put_examples(Examples(bench.dataset.x, bench.dataset.y))
        values = program.put_values([value] * count)
        states = program.put(program.init(values, examples), count - 1, state)
        states, _ = program.chunk(states, values, examples, ticks)
        return jax.device_get(program.take(states, count - 1))

    examples = reference.put_examples(Examples(bench.dataset.x, bench.dataset.y))
    start = jax.device_get(reference.take(reference.init(reference.put_values([value]), examples), 0))
    for _ in range(3):
        expected, actual = (after(p, n, start, 1) for p, n in ((reference, 1), (other, lanes)))
        assert relative(actual.gradients, expected.gradients) < GRADIENT_BOUND
        expected, actual = (after(p, n, start, 2) for p, n in ((reference, 1), (other, lanes)))
        updates = [jax.tree.map(np.subtract, state.params, start.params) for state in (actual, expected)]
        assert relative(*updates) < UPDATE_BOUND
        start = expected
