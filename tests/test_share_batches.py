"""`--share_batches`: one order of the data for all lanes, a batch read once for those that run together."""

import re

import jax
import numpy as np
import pytest

from hpjax import build, resolve
from hpjax.batch import Examples
from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.lanes import LaneProgram
from hpjax.placement import Layout
from hpjax.study.study import load_study
from test_identity import assert_same_bits
from test_study_engine import BASE, engine_of, outcome, run
from test_sweep import repeated, swept

TICKS = 12
MODELS = {"mlp": {"hidden_sizes": (16, 16)}, "cnn": {"channels": (4,), "hidden_sizes": (16,), "mixup_alpha": 0.3}}


class Shared:
    """A program of four lanes that run together, and its values."""

    def __init__(self, model, **changes):
        self.model, self.changes = model, {"share_batches": True, **changes}
        config = self.config()
        self.dataset = build.load(config)
        self.program = LaneProgram(build.trial(config, self.dataset), Layout(lanes=4, width=4))
        self.examples = self.program.put_examples(Examples(self.dataset.x, self.dataset.y))

    def config(self, **changes):
        settings = {"model": self.model, "batch_size": 32, "micro_batch_size": 16, "train_steps": TICKS // 2}
        settings |= {"dropout_rate": 0.2, "optimizer": "adamw", **MODELS[self.model], **self.changes, **changes}
        return resolve.resolve(Config(**settings))

    def values(self, **changes):
        config = self.config(**changes)
        return resolve.traced(config, resolve.lengths(config, self.dataset.splits["train"][1])[0])

    def run(self, lanes, lane, refilled=0):
        """Returns the end of a lane whose trial takes it once the others have made some ticks."""
        program, values = self.program, self.program.put_values(lanes)
        states = program.init(values, self.examples)
        if refilled:
            states, _ = program.chunk(states, values, self.examples, refilled)
            states = program.refill(states, values, self.examples, np.arange(4) == lane)
        states, _ = program.chunk(states, values, self.examples, TICKS)
        return jax.device_get(program.take(states, lane))


@pytest.fixture(scope="module", params=MODELS)
def shared(request):
    return Shared(request.param)


def test_neighbours_ticks_and_lanes_change_no_bit(shared):
    mine = shared.values(seed=3, learning_rate=0.01)
    idle = {**mine, "train_steps": np.int32(0)}
    others = [shared.values(seed=seed, learning_rate=0.003 * seed, batch_size=16 * seed) for seed in (1, 2, 4)]
    broken = [{**others[0], "learning_rate": np.float32(np.nan)}, *others[1:]]
    alone = shared.run([mine, idle, idle, idle], 0)
    assert alone.tick == TICKS
    assert alone.diverged_at == -1
    assert_same_bits(shared.run([*others, mine], 3), alone)
    assert_same_bits(shared.run([*broken[:1], mine, *broken[1:]], 1), alone)
    for refilled in (1, 5):
        assert_same_bits(shared.run([*others[:2], mine, others[2]], 2, refilled), alone)
    assert shared.program.traces == {"init": 1, "chunk": 1, "refill": 1, "take": 1}


def test_it_sees_what_a_lane_that_reads_for_itself_sees():
    """With one tick a step and no rounding to differ: the same examples, in the same order."""
    shared, own = Shared("mlp", dropout_rate=0.0), Shared("mlp", dropout_rate=0.0, share_batches=False)
    lanes = [dict(shared.values(seed=seed, data_seed=5)) for seed in range(4)]
    for lane in (0, 3):
        one, other = shared.run(lanes, lane, refilled=lane), own.run(lanes, lane, refilled=lane)
        assert one.tick == other.tick
        for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def gathered(program, shared):
    """The shapes of what the compiled chunk gathers out of the data set."""
    values = program.put_values([shared.values()] * 4)
    states = program.init(values, shared.examples)
    text = str(program._chunk.trace(states, values, np.full(4, 4, np.int32), shared.examples).jaxpr)
    shapes = {tuple(map(int, found.split(","))) for found in re.findall(r":\w+\[([\d,]+)\] = gather", text)}
    of_one = shared.dataset.x.shape[1:]
    return {shape for shape in shapes if shape[-len(of_one) :] == of_one}


def test_the_batch_is_read_once():
    shared, own = Shared("mlp"), Shared("mlp", share_batches=False)
    assert gathered(shared.program, shared) == {(16, 8, 8, 1)}
    assert gathered(own.program, own) == {(4, 16, 8, 8, 1)}


def test_lanes_of_one_order_cannot_have_several(shared):
    lanes = [shared.values(data_seed=seed // 3) for seed in range(4)]
    with pytest.raises(ValueError, match="several data seeds"):
        shared.program.put_values(lanes)


def test_one_order_unless_it_is_named():
    assert resolve.resolve(Config(seed=7, share_batches=True)).data_seed == 0
    assert resolve.resolve(Config(seed=7, data_seed=3, share_batches=True)).data_seed == 3


# Studies.

VARY = ("learning_rate=log(1e-3,1e30)", "batch_size=choice(32,64)", "seed=range(2)")
WIDE = BASE.replace(optimizer="sgd", share_batches=True, lane_width="2", train_steps="27", eval_every="3")


@pytest.mark.parametrize("scheduler", ["none", "asha", "asha_promotion", "halving"])
def test_a_study_has_the_numbers_of_any_other_lanes(scheduler):
    """What a trial comes to does not depend on the lanes it runs beside: some diverge, some stop, batches differ."""
    study = {"vary": VARY, "trials": 24, "scheduler": scheduler}
    wide, maker, _ = engine_of(WIDE, lanes="16", **study)
    records = run(wide)
    assert len(maker.made) == 1
    assert {"done", "diverged"} <= {record.status for record in records}
    assert {record.status for record in records} <= {"done", "diverged", "stopped"}
    other = run(engine_of(WIDE, lanes="8", **study)[0])
    for one, another in zip(records, other, strict=True):
        shared = min(len(one.curve), len(another.curve))
        assert one.curve[:shared] == another.curve[:shared]
        if scheduler == "none":
            assert outcome(one) == outcome(another)


def test_lanes_that_begin_together_stay_busy():
    config = BASE.replace(share_batches=True, lane_width="2")
    engine, _, _ = engine_of(config, vary=("learning_rate=log(1e-4,1e-1)",), trials=40, lanes="4")
    run(engine)
    assert engine.counts.occupancy >= 0.95


@pytest.mark.parametrize("width", ["1", "4"])
def test_the_winner_is_a_single_run_bit_for_bit(width, tmp_path):
    vary = ("learning_rate=log(1e-3,1e-1)", "seed=range(2)")
    settings = {"share_batches": "true", "lane_width": width, "lanes": 8, "trials": 16}
    folder = swept(tmp_path / "study", vary, **settings)
    assert "--share_batches=true\n" in (folder / "best.flags").read_text()
    assert "--data_seed=0\n" in (folder / "best.flags").read_text()
    assert len(load_study(folder).records) == 16
    repeated(folder, tmp_path / "run")


@pytest.mark.parametrize(
    ("vary", "changes", "message"),
    [
        ("data_seed=range(2)", {}, "data_seed is varied, but with share_batches all trials have one order of the data"),
        ("seed=range(2)", {"folds": 3}, "fold is varied, but with share_batches all trials have one order of the data"),
        ("share_batches=choice(true,false)", {}, "'share_batches' cannot be varied"),
    ],
)
def test_other_orders_are_refused(vary, changes, message):
    with pytest.raises(ConfigError, match=message):
        engine_of(BASE.replace(share_batches=True, **changes), vary=("learning_rate=log(1e-3,1)", vary), trials=12)
