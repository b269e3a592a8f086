"""`--dry_run`: what a run would be, on the devices that are here, without reading its data where its size is known."""

import sys
import time
from typing import Any

import jax
import numpy as np

from hpjax import build, devices, inert, processes, resolve, zero
from hpjax.build import SingleRun
from hpjax.config import Config, check_is_config
from hpjax.data import Dataset
from hpjax.data.memory import available
from hpjax.data.stand_in import stand_in
from hpjax.processes import Alone, opening
from hpjax.resolve import Lengths, static_settings

SECONDS = 1.0
"""For how long ticks are timed."""


def preview(config: Config) -> list[str]:
    """Returns lines that say what a run would be: data, mesh, shapes, memory, lengths, time. Nothing is written.

    Args:
      config: the settings.

    Raises:
      ConfigError, DataError: as the run would.
    """
    check_is_config(config)
    with processes.joined(config) as team:
        inert.check_warmup(config)
        config = resolve.resolve(config)
        standing = stand_in(config.dataset, static_settings(config, "dataset"))
        dataset = build.load(config, None if standing is None else standing.dataset, streams=True)
        lengths, notes = resolve.lengths(config, dataset.splits["train"][1])
        devices.configure(team.neighbours)
        share = opening.share(team, config)
        scalars = resolve.traced(config, lengths)
        build.check_parts(config, dataset, scalars)
        micro_batch_size = config.micro_batch_size or config.batch_size
        choices = devices.candidates(config.devices, micro_batch_size, config.eval_batch_size, config.lane_devices, share)
        single = build.single_run(config.replace(devices=str(choices[-1])), dataset, scalars, None, share)
        compiled, compiling = _compiled(single, scalars)
        lacking = team.agreed(_lacking(single, compiled, team), "what lacks")
        if len(choices) > 1 and lacking is None:
            # Which number is the fastest is measured only where there is room for the ticks.
            single = build.single_run(config, dataset, scalars, None, share)
            compiled, compiling = _compiled(single, scalars)
        batch = int(scalars["accumulation"]) * micro_batch_size
        looks = lengths.train_steps // lengths.eval_every + (lengths.train_steps % lengths.eval_every > 0)
        return [
            _data(dataset, "read" if standing is None else standing.known),
            *_layout(single, dataset, share),
            *_memory(compiled),
            f"steps: {dataset.splits['train'][1] / batch:,.4g} an epoch, {lengths.train_steps:,} in all, "
            f"{looks} evaluations",
            lacking or _timed(single, compiled, dataset, lengths, scalars, team) + f"; compiling {compiling:.0f} s",
            *notes,
        ]


def _data(dataset: Dataset, known: str) -> str:
    sizes = ", ".join(f"{size:,} for {split}" for split, (_, size) in dataset.splits.items())
    if dataset.stream is not None:
        where = f"{_bytes(dataset.x.size)} streamed, held-out splits shared out over devices"
    else:
        where = f"{_bytes(dataset.x.nbytes + dataset.y.nbytes)} on each device"
    return f"data: {dataset.name}, {sizes}; {where} ({known})"


def _layout(single: SingleRun, dataset: Dataset, share: devices.Share) -> list[str]:
    """Returns lines about the mesh, the shapes on a device, parameters and the optimizer's state."""
    config, trial = single.config, single.program.trial
    shards = trial.data_shards
    kind = jax.devices()[0].device_kind
    many = f" of {share.processes} processes, {shards // share.processes} each" if share.processes > 1 else ""
    shape = list(dataset.x.shape[1:]) or [dataset.window]
    accumulated = config.batch_size // trial.micro_batch_size
    state = single.like()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    optimizer, kept = zero.bytes_of(state.optimizer), zero.bytes_of(state.optimizer, shards)
    shared = f"{_bytes(kept)} on each device, {_bytes(optimizer)} if each had all of it"
    return [
        f"mesh: lane {config.lane_devices}, data {shards} ({kind}){many}",
        f"a tick on a device: {trial.micro_batch_size // shards} examples {shape} of a micro-batch of "
        f"{trial.micro_batch_size}; a step: {accumulated} tick{'s' * (accumulated > 1)}, {config.batch_size} examples",
        f"parameters: {parameters:,}, {_bytes(zero.bytes_of(state.params))}; optimizer's state: "
        + (shared if trial.is_shared_out else f"{_bytes(optimizer)} on each device"),
    ]


def _compiled(single: SingleRun, scalars: dict[str, Any]) -> tuple[Any, float]:
    """Returns the chunk's program and the seconds that it took to compile."""
    values = single.program.put_values([resolve.endless(scalars)] * single.program.layout.lanes)
    began = time.perf_counter()
    compiled = single.program.compiled_chunk(single.init(), values, single.examples)
    return compiled, time.perf_counter() - began


def _memory(compiled: Any) -> list[str]:
    """Returns a line about what a device holds while it trains, where the compiler says it."""
    memory = compiled.memory_analysis()
    if memory is None:
        return []
    held, work = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    return [
        f"memory of a device while it trains: {_bytes(held + work)} (data, states {_bytes(held)}, work {_bytes(work)}), "
        "by the compiler"
    ]


def _lacking(single: SingleRun, compiled: Any, team: Alone) -> str | None:
    """Returns a line in the place of the time where a tick needs more memory than there is, else None."""
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    here = single.program.mesh.local_devices
    limit = (here[0].memory_stats() or {}).get("bytes_limit")
    if limit is not None:
        left, whose = limit - memory.argument_size_in_bytes, "each has"
    else:
        # CPU devices share their machine's memory, in which data and states lie already.
        left, whose = (available() or sys.maxsize) // (len(here) * team.neighbours), "this machine has left for each"
    if memory.temp_size_in_bytes <= left:
        return None
    return (
        f"time: not measured: a device needs {_bytes(memory.temp_size_in_bytes)} for its work, {whose} {_bytes(left)}; "
        "expected a smaller micro_batch_size, or more devices"
    )


def _timed(
    single: SingleRun, compiled: Any, dataset: Dataset, lengths: Lengths, scalars: dict[str, Any], team: Alone
) -> str:
    """Returns a line about time, by ticks and evaluations on zeros."""
    config, program, examples = single.config, single.program, single.examples
    values = program.put_values([resolve.endless(scalars)] * program.layout.lanes)
    states = single.init()

    def seconds(ticks: int) -> float:
        nonlocal states
        start = time.perf_counter()
        states, report = compiled(states, values, np.full(program.layout.lanes, ticks, np.int32), examples)
        jax.block_until_ready(report)
        return time.perf_counter() - start

    seconds(1)
    ticks = team.agreed(max(1, round(SECONDS / max(seconds(2) / 2, 1e-6))), "ticks")
    a_tick = seconds(ticks) / ticks
    looks = lengths.train_steps // lengths.eval_every + (lengths.train_steps % lengths.eval_every > 0)
    evaluating, (first, examples_of_val) = 0.0, dataset.splits["val"]

    def evaluated(number: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(program.evaluate(states, examples, first, number))
        return time.perf_counter() - start

    if examples_of_val:
        # So many batches as take about a second stand for all of a large split.
        size = min(config.eval_batch_size, examples_of_val)
        evaluated(size)
        batches = max(1, round(SECONDS / max(evaluated(size), 1e-6)))
        number = team.agreed(min(batches * size, examples_of_val), "examples")
        evaluating = evaluated(number) * examples_of_val / number
    total = lengths.train_steps * int(scalars["accumulation"]) * a_tick + looks * evaluating
    return (
        f"time: about {_time(total)} here: {1 / a_tick:,.4g} ticks/s, {program.trial.micro_batch_size / a_tick:,.4g} "
        f"examples/s, {evaluating:.2g} s an evaluation, measured on zeros"
    )


def _bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def _time(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.2g} s" if seconds < 100 else f"{minutes:.3g} min" if minutes < 100 else f"{hours:.3g} h"
