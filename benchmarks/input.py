"""`python -m benchmarks.input`: images a second of streamed input alone, of the step alone and of both; which bounds a run.

Arguments are flags of hpjax.train, `--data_file` among them; without it, JPEG pictures of 256 x 256 are made.
"""

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from hpjax import build, devices, feed, flags, resolve
from hpjax.build import SingleRun

SECONDS = 8.0
WINDOW_BYTES = 2_000_000
"""Smaller than in a run, so that a few seconds of a slow step are several windows."""
PICTURES, SIDE = 1024, 256
DEFAULTS = ["--dataset=image_folder", "--stream=on", "--model=resnet", "--image_size=64", "--batch_size=64"]
FAR = "1000000"
"""Steps of a run that is not over before it was measured."""


def main(arguments: list[str]) -> None:
    """Measures, and prints a line for each."""
    feed.WINDOW_BYTES = WINDOW_BYTES
    with contextlib.ExitStack() as stack:
        if not any(argument.startswith(("--data_file", "--flagfile")) for argument in arguments):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            arguments = [f"--data_file={folder}", f"--cache_dir={folder}/cache", *arguments]
            _make(Path(folder))
        config = resolve.resolve(flags.parse([__file__, *DEFAULTS, *arguments]).replace(train_steps=FAR))
        devices.configure()
        dataset = build.load(config, streams=True)
        lengths, _ = resolve.lengths(config, dataset.splits["train"][1])
        scalars = resolve.endless(resolve.traced(config, lengths))

        def run() -> SingleRun:
            single = build.single_run(config, dataset, scalars)
            assert single.feed is not None
            stack.callback(single.feed.close)
            return single

        config = run().config
        rates = {name: measure(run()) for name, measure in (("input", _input), ("step", _step), ("both", _both))}
    for name, rate in rates.items():
        print(f"{name + (' alone' if name != 'both' else ''):12s} {rate:10,.1f} images/s")
    print(f"the {min(('input', 'step'), key=rates.__getitem__)} bounds the run")


def _make(folder: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(PICTURES):
        # Photographs are smooth: noise alone would decode more slowly.
        noise = Image.fromarray(random.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8))
        file = io.BytesIO()
        noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        path = folder / f"{i % 4}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file.getvalue())


def _windows(source: feed.Feed) -> Iterator[Any]:
    """Yields windows for some seconds, the first of which do not count; then what one of them brings a second."""
    tick, ticks, began = 0, 0, 0.0
    while not began or time.perf_counter() - began < SECONDS:
        window = source.at(tick)
        yield window
        tick = window.end
        # Starting processes, and the first decoding, are no part of a rate.
        if not began and tick >= 2 * source.ticks:
            began = time.perf_counter()
        elif began:
            ticks += window.end - window.tick
    yield ticks / (time.perf_counter() - began)


def _input(single: SingleRun) -> float:
    assert single.feed is not None
    for found in _windows(single.feed):
        if isinstance(found, float):
            return found * single.program.trial.micro_batch_size
        jax.block_until_ready(found.examples.x)
    raise AssertionError


def _step(single: SingleRun) -> float:
    assert single.feed is not None
    source, program, states = single.feed, single.program, single.init()
    examples, ticks, began = source.placeholder(), 0, 0.0
    while not began or time.perf_counter() - began < SECONDS:
        states, report = program.chunk(states, single.values, examples._replace(tick=jnp.int32(ticks)), source.ticks)
        jax.block_until_ready(report)
        began, ticks = began or time.perf_counter(), ticks + source.ticks
    return (ticks - source.ticks) / (time.perf_counter() - began) * program.trial.micro_batch_size


def _both(single: SingleRun) -> float:
    assert single.feed is not None
    program, states, report = single.program, single.init(), None
    for found in _windows(single.feed):
        if isinstance(found, float):
            return found * program.trial.micro_batch_size
        # The host is one window ahead, as in a run.
        jax.block_until_ready(report)
        states, report = program.chunk(states, single.values, found.examples, found.end - found.tick)
    raise AssertionError


if __name__ == "__main__":
    main(sys.argv[1:])
