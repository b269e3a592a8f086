"""`python -m benchmarks.scaling [run] [sum] [model]`: one run on one core and two, and what summing gradients costs by size.

All contenders are started and compile once; then they are timed in turn, round after round, each in its own processes,
pinned to its cores, while the others wait for their next line. `benchmarks/links.py` says what a model makes of other links.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import links

ROUNDS, SECONDS, MUST = 5, 4.0, 1.7
WORKER = "worker"
"""First word of a contender's command line."""
SIZES = (10_000, 100_000, 270_000, 1_000_000, 10_000_000, 25_600_000)
"""Parameters whose gradients are summed; ResNet-20 has 0.27 million, ResNet-50 25.6 million."""


class Contender(NamedTuple):
    """How a run lies on the cores: a name, the cores of each process, and the devices of each."""

    name: str
    cores: tuple[tuple[int, ...], ...]
    devices: int


def contenders(first: int, second: int) -> tuple[Contender, ...]:
    """Returns what is compared on two cores; the first is one core alone."""
    return (
        Contender("one core", ((first,),), 1),
        Contender("two cores, one device of two threads", ((first, second),), 1),
        Contender("two cores, two devices", ((first, second),), 2),
        # Not pinned to a core each: gloo's thread polls without end, and would share its core with what computes.
        Contender("two processes on the two cores, over loopback", ((first, second), (first, second)), 1),
    )


class Team:
    """A contender's processes: each answers a line of JSON with another."""

    def __init__(self, work: str, contender: Contender):
        """Starts them; they compile meanwhile."""
        self.name = contender.name
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        number = len(contender.cores)
        self._processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.scaling",
                    WORKER,
                    work,
                    json.dumps([cores, contender.devices, address, number, id_]),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "JAX_NUM_CPU_DEVICES": str(contender.devices)},
            )
            for id_, cores in enumerate(contender.cores)
        ]

    def ask(self, **message: Any) -> dict[str, float]:
        """Returns the longest time, and the sum of processor time, that the processes took for what is asked."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
        answers = [self._answer(process) for process in self._processes]
        return {"seconds": max(one["seconds"] for one in answers), "cpu": sum(one["cpu"] for one in answers)}

    def close(self) -> None:
        """Lets the processes end: all are told before one is waited for, since they leave together."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait()

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> dict[str, float]:
        assert process.stdout is not None
        for line in process.stdout:
            # Gloo prints lines of its own.
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"a contender ended with code {process.wait()}")


def run_worker(share: Any, config: Any) -> Callable[..., None]:
    """Returns what trains so many ticks of ResNet-20 on 32 x 32 colours, batch 128, momentum, native kernels."""
    import jax

    from benchmarks.workloads import _pictures
    from hpjax import build, resolve

    config = resolve.resolve(
        config.replace(model="resnet", depth=20, optimizer="momentum", native="on", train_steps="1000000")
    )
    dataset = _pictures(32, 3)
    scalars = resolve.traced(config, resolve.lengths(config, dataset.splits["train"][1])[0])
    single = build.single_run(config, dataset, scalars, None, share)
    states = single.init()

    def work(repeat: int) -> None:
        nonlocal states
        states, report = single.program.chunk(states, single.values, single.examples, repeat)
        jax.block_until_ready(report)

    work(1)
    return work


def sum_worker(share: Any, config: Any) -> Callable[..., None]:
    """Returns what averages an array of so many float32 numbers over all devices, so many times, as a tick does."""
    import functools

    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from hpjax import everywhere

    everyone, mesh = PartitionSpec(), Mesh(np.array(share.devices(int(config.devices)) or jax.devices()), ("data",))

    @functools.cache
    def program(size: int) -> tuple[Any, jax.Array]:
        def mean(numbers: jax.Array, repeat: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, repeat, lambda _, so_far: everywhere.mean(so_far, "data"), numbers)

        mapped = jax.shard_map(mean, mesh=mesh, in_specs=(everyone, everyone), out_specs=everyone, check_vma=False)
        whole = np.ones(size, np.float32)
        numbers = jax.make_array_from_callback((size,), NamedSharding(mesh, everyone), lambda index: whole[index])
        return jax.jit(mapped), numbers

    def work(repeat: int, size: int) -> None:
        mean, numbers = program(size)
        jax.block_until_ready(mean(numbers, np.int32(repeat)))

    return work


def serve(kind: str, cores: list[int], devices: int, address: str, number: int, id_: int) -> None:
    """Answers lines until there are no more; `cores` are this process's."""
    os.sched_setaffinity(0, cores)
    from hpjax import processes
    from hpjax.config import Config
    from hpjax.processes import opening

    config = Config(batch_size=128, eval_batch_size=128, devices=str(devices * number), progress=False)
    if number > 1:
        config = config.replace(coordinator_address=address, num_processes=number, process_id=id_, join_timeout=300)
    with processes.joined(config) as team:
        work = {"run": run_worker, "sum": sum_worker}[kind](opening.share(team, config), config)
        for line in sys.stdin:
            asked = json.loads(line)
            began, cpu = time.perf_counter(), time.process_time()
            work(**asked)
            print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}), flush=True)


def timed(teams: list[Team], **asked: Any) -> dict[str, list[dict[str, float]]]:
    """Returns seconds and processor seconds of one repetition, round by round, of all contenders in turn."""
    repeats = {}
    for team in teams:
        team.ask(repeat=1, **asked)
        repeats[team.name] = max(1, round(SECONDS / team.ask(repeat=2, **asked)["seconds"] * 2))
    found: dict[str, list[dict[str, float]]] = {team.name: [] for team in teams}
    for _ in range(ROUNDS):
        for team in teams:
            one = team.ask(repeat=repeats[team.name], **asked)
            found[team.name].append({name: value / repeats[team.name] for name, value in one.items()})
    return found


def runs(compared: tuple[Contender, ...]) -> None:
    """Prints how fast a run is on one core and on two."""
    teams = [Team("run", contender) for contender in compared]
    found = timed(teams)
    print("| ResNet-20, batch 128, native | ms a tick | of them processor time | against one core |\n" + "| --- " * 4 + "|")
    for team in teams:
        wall, cpu = (1e3 * statistics.median(one[name] for one in found[team.name]) for name in ("seconds", "cpu"))
        # Round by round: what else the machine does changes more slowly.
        pairs = zip(found[compared[0].name], found[team.name], strict=True)
        gain = statistics.median(alone["seconds"] / one["seconds"] for alone, one in pairs)
        print(f"| {team.name} | {wall:.1f} | {cpu:.1f} | {gain:.2f} x |")
        team.close()
    print(f"\nasked: {MUST} x")


def sums(compared: tuple[Contender, ...]) -> None:
    """Prints what a sum of gradients costs by their number."""
    teams = [Team("sum", contender) for contender in compared[2:]]
    print(
        "| parameters | MB | two devices of a process, ms | two processes over loopback, ms | GB/s |\n" + "| --- " * 5 + "|"
    )
    for size in SIZES:
        ms = [1e3 * statistics.median(one["seconds"] for one in rounds) for rounds in timed(teams, size=size).values()]
        print(f"| {size:,} | {size * 4 / 1e6:.3g} | {ms[0]:.3g} | {ms[1]:.3g} | {size * 4 / 1e6 / ms[1]:.2g} |")
    for team in teams:
        team.close()


def main(names: list[str]) -> None:
    """Prints the tables that are named, `run`, `sum` or `model`; all of them where none is."""
    compared = contenders(*sorted(os.sched_getaffinity(0))[:2])
    tables = {"run": lambda: runs(compared), "sum": lambda: sums(compared), "model": lambda: print(links.table())}
    for name in names:
        # Before anything is started: what starts processes must never do so by mistake.
        if name not in tables:
            raise SystemExit(f"benchmarks.scaling: '{name}' is no table; expected some of {', '.join(tables)}")
    for name in names or tables:
        print(f"{name}: load {os.getloadavg()[0]:.1f}; what is timed: {ROUNDS} rounds in turn, medians\n")
        tables[name]()
        print()


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        serve(sys.argv[2], *json.loads(sys.argv[3]))
    else:
        main(sys.argv[1:])
