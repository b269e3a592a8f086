"""The short probe that chooses the lane width of a study on an accelerator, once, before the study begins."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hpjax import build, resolve
from hpjax.lanes import LaneProgram
from hpjax.placement import Layout
from hpjax.processes import ALONE, Alone
from hpjax.study.plan import Plan, Planner
from hpjax.study.setup import Setup
from hpjax.study.width import choose, doubled

ROUNDS, SECONDS = 3, 0.15
"""How often, and about how long, a width is measured."""


def widened(parts: Setup, say: Callable[[str], None], team: Alone = ALONE) -> Setup:
    """Returns a study's parts with the lane width that a probe chooses, where it was left open; says what was measured.

    Of several processes process 0 measures, on its own devices.
    """
    if parts.layout_of is None:
        return parts
    return of_width(parts, team.agreed(_fastest(parts, say) if team.first else None, "width"))


def _fastest(parts: Setup, say: Callable[[str], None]) -> int:
    assert parts.layout_of is not None
    say("measuring how many lanes run together fastest")
    bench = Bench(parts)
    most = -(-parts.trials // (parts.layout_of(1).lane_devices * parts.waves))
    stats = jax.local_devices()[0].memory_stats() or {}
    chosen = choose(doubled(most, parts.lanes_a_wave), bench.least, bench.compiled, bench.rate, stats.get("bytes_limit"))
    say(chosen.reason)
    return chosen.width


def of_width(parts: Setup, width: int) -> Setup:
    """Returns a study's parts with so many lanes running together."""
    assert parts.layout_of is not None
    layout, base = parts.layout_of(width), parts.base.replace(lane_width=str(width))
    names = (*parts.space.names, *parts.space.replicated)
    return parts._replace(
        base=base,
        study=dataclasses.replace(parts.study, lanes=str(layout.lanes * parts.waves)),
        planner=Planner(base, names, parts.dataset.train_sizes(base.folds or 1)),
        layout=layout,
        layout_of=None,
    )


class Bench:
    """Measures programs of one compile group, the one with the largest state, in several widths."""

    def __init__(self, parts: Setup):
        """Compiles nothing yet."""
        self._parts = parts
        dataset = parts.dataset
        self._data = dataset.x.nbytes + dataset.y.nbytes
        self._examples = build.examples(dataset)
        self._trials = {plan.group: build.trial(plan.config, dataset) for plan in parts.groups}
        self._bytes = {plan.group: self._of_lane(plan) for plan in parts.groups}
        self._plan = max(parts.groups, key=lambda plan: self._bytes[plan.group])
        self._run: Callable[[int], Any] | None = None

    def least(self, width: int) -> int:
        """Returns the bytes of the data and of all groups' lanes, for they stay on the device side by side."""
        return self._data + width * self._parts.waves * sum(self._bytes.values())

    def compiled(self, width: int) -> int:
        """Compiles a width; returns the bytes of its chunk and of everything that lies beside it."""
        self._run = None
        plan = self._plan
        here = jax.local_devices()
        layout = Layout(width, width, data_devices=min(self._parts.layout.data_devices, len(here)))
        program = LaneProgram(self._trials[plan.group], layout, here)
        examples = program.put_examples(self._examples)
        with _explained(width):
            values = program.put_values([resolve.endless(plan.scalars)] * width)
            states = program.init(values, examples)
            chunk = program.compiled_chunk(states, values, examples)

        def run(ticks: int) -> Any:
            nonlocal states
            states, report = chunk(states, values, np.full(width, ticks, np.int32), examples)
            return report

        self._run = run
        analysis = chunk.memory_analysis()
        if analysis is None:
            return self.least(width)
        own = analysis.argument_size_in_bytes + analysis.output_size_in_bytes + analysis.temp_size_in_bytes
        own -= analysis.alias_size_in_bytes
        beside = self.least(width) - self._data - width * self._bytes[plan.group]
        return own + beside

    def rate(self, width: int) -> float:
        """Returns the lane-ticks a second of the width that was compiled last."""
        run = self._run
        assert run is not None

        def seconds(ticks: int) -> float:
            start = time.perf_counter()
            jax.block_until_ready(run(ticks))
            return time.perf_counter() - start

        with _explained(width):
            seconds(1)
            ticks = max(1, round(SECONDS / max(seconds(2) / 2, 1e-6)))
            return width * ticks / statistics.median(seconds(ticks) for _ in range(ROUNDS))

    def _of_lane(self, plan: Plan) -> int:
        make = functools.partial(build.like, self._trials[plan.group])
        return sum(leaf.nbytes for leaf in jax.tree.leaves(make(plan.scalars, self._examples)))


class _explained:
    """Turns a device's message that its memory is full into MemoryError."""

    def __init__(self, width: int):
        self._width = width

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
            raise MemoryError(f"{self._width} does not fit into the device's memory") from None
