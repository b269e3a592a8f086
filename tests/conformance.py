"""What every registered part must hold inside a lane program; a part is tested by being registered."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from hpjax import build, resolve
from hpjax.batch import Examples
from hpjax.checkpoints import Checkpoints
from hpjax.config import Config
from hpjax.data import Dataset, create, task
from hpjax.lanes import LaneProgram
from hpjax.placement import Layout
from hpjax.state import TrialState
from hpjax.trial import Trial

TICKS = 8
GRADIENT_BOUND = 2e-6
"""Relative, L2, of a micro-batch's gradient on two devices against one; the measured maxima are in BUILD_NOTES.md."""

SMALL: dict[str, Any] = {
    "hidden_sizes": (8,),
    "batch_size": 16,
    "micro_batch_size": 8,
    "train_steps": TICKS // 2,
    "eval_every": 2,
    "log_every": 2,
    "eval_batch_size": 64,
    "devices": 1,
    "progress": False,
}


@task("multilabel")
def several_labels() -> Dataset:
    """A data set of one's own, `conformance:several_labels`: three labels that may hold together."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 5)).astype(np.float32)
    y = (x[:, :3] + 0.5 * random.normal(size=(300, 3)) > 0.3).astype(np.float32)
    parts = {split: (x[rows], y[rows]) for split, rows in (("train", slice(180)), ("val", slice(180, 240)))}
    return create("several_labels", **parts, test=(x[240:], y[240:]), task="multilabel")


def settings(**changes: Any) -> Config:
    """Returns a small resolved config."""
    small = {**SMALL, **changes}
    if small.get("model", "mlp") not in ("mlp", "cnn"):
        small.pop("hidden_sizes")
    return resolve.resolve(Config(**small))


def scalars(config: Config, dataset: Any) -> dict[str, Any]:
    return resolve.traced(config, resolve.lengths(config, dataset.splits["train"][1])[0])


def perturbed(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Returns other values of another trial: another seed and rate, and the named float settings moved within (0, 1)."""
    other = {**values, "seed": np.uint32(7), "data_seed": np.uint32(9), "learning_rate": values["learning_rate"] / 2}
    for name in names:
        if isinstance(values.get(name), np.float32):
            other[name] = np.float32(values[name] * np.float32(0.9) if values[name] > 0 else 0.01)
    return other


def assert_same(actual: Any, expected: Any) -> None:
    for (path, a), e in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype, jax.tree_util.keystr(path)
        assert a.tobytes() == e.tobytes(), f"{jax.tree_util.keystr(path)} differs"


def flat(tree: Any) -> np.ndarray:
    """Returns all of a tree's numbers, float64."""
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(jax.device_get(tree))])


def on_two_devices(part: Trial, state: TrialState, values: dict[str, Any], dataset: Dataset) -> Any:
    """Returns the gradients of a trial's next micro-batch, of which two devices have a half each."""
    trial = dataclasses.replace(part, data_shards=2, data_axis="data")

    def gradients(state: TrialState, values: Any, examples: Examples) -> Any:
        return trial.gradients(state, values, trial.batch(state, values, examples))[-1]

    # The whole program on such a mesh is `test_identity.py`'s; this is the part that a model or a loss shapes.
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    whole = PartitionSpec()
    mapped = jax.shard_map(gradients, mesh=mesh, in_specs=(whole,) * 3, out_specs=whole, check_vma=False)
    values = {name: np.asarray(value) for name, value in values.items()}
    return jax.jit(mapped)(state, values, Examples(dataset.x, dataset.y))


def check(
    config: Config,
    folder: Path,
    names: tuple[str, ...] = (),
    other: Config | None = None,
    program: LaneProgram | None = None,
) -> LaneProgram:
    """Runs a config through every row of the conformance table.

    Args:
      config: resolved; of no more than a few thousand parameters.
      folder: an empty folder for checkpoints.
      names: traced settings in which the second lane differs.
      other: config of the second lane, if it differs in more than values.
      program: that of a config checked before, which differed in values only.

    Returns:
      The program.
    """
    dataset = build.load(config)
    part = build.trial(config, dataset)
    mine = scalars(config, dataset)
    yours = perturbed(mine if other is None else scalars(other, dataset), names)
    first = program is None
    program = program or LaneProgram(part, Layout(lanes=2, lane_devices=2))
    examples = program.put_examples(Examples(dataset.x, dataset.y))

    def run(lanes: list[dict[str, Any]], lane: int, chunks: tuple[int, ...] = (TICKS,)) -> Any:
        values = program.put_values(lanes)
        states = program.init(values, examples)
        for ticks in chunks:
            states, _ = program.chunk(states, values, examples, ticks)
            # Every chunk ends with an evaluation that schedules may watch.
            measured = program.evaluate(states, examples, *dataset.splits["val"])
            states = program.observe(states, values, measured)
        return jax.device_get((program.take(states, lane), {name: value[lane] for name, value in measured.items()}))

    # Lanes of different values in one program; lane position and neighbour do not matter.
    expected = run([mine, yours], 0)
    assert expected[0].diverged_at == -1 and expected[0].tick == TICKS
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(expected[0].params))
    assert_same(run([yours, mine], 1), expected)
    assert any(
        a.tobytes() != b.tobytes() for a, b in zip(*map(jax.tree.leaves, (run([mine, yours], 1), expected)), strict=True)
    )

    # Resume: through a checkpoint on the disk into the other lane.
    halves = run([mine, yours], 0, (TICKS // 2, TICKS // 2))
    half, _ = run([mine, yours], 0, (TICKS // 2,))
    checkpoints = Checkpoints(folder, 1, 1)
    checkpoints.save(1, half, {}, 0.0)
    checkpoints.wait()
    restored, _ = checkpoints.restore(1, build.like(part, mine, Examples(dataset.x, dataset.y)))
    checkpoints.close()
    values = program.put_values([yours, mine])
    states = program.put(program.init(values, examples), 1, restored)
    states, _ = program.chunk(states, values, examples, TICKS)
    measured = program.evaluate(states, examples, *dataset.splits["val"])
    states = program.observe(states, values, measured)
    assert_same(jax.device_get(program.take(states, 1)), halves[0])

    # Nothing was compiled twice, whatever the values.
    assert set(program.traces.values()) == {1}, program.traces

    if not first:
        return program

    # Two devices that share a batch: the same gradient up to rounding.
    states, _ = program.chunk(program.init(values, examples), values, examples, 1)
    one = flat(program.take(states, 1).gradients)
    start = jax.device_get(program.take(program.init(values, examples), 1))
    distance = np.linalg.norm(flat(on_two_devices(part, start, mine, dataset)) - one) / np.linalg.norm(one)
    print(f"a gradient on two devices is {distance:.2g} from that on one")
    assert distance <= GRADIENT_BOUND
    return program
