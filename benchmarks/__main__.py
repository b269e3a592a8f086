"""`make bench`: hpjax and its peers in turn, A B A B, each in processes of its own; medians and their ratio."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROUNDS = 3
OUT = Path("runs/bench")


class Contender(NamedTuple):
    """A workload in so many processes at once, one argument for each; their rates add up."""

    name: str
    workload: str
    arguments: tuple[int, ...]
    needs: str = "jax"


class Comparison(NamedTuple):
    """hpjax's best contender against the peers' best; `must` is the ratio that was asked for, or None."""

    title: str
    unit: str
    ours: tuple[Contender, ...]
    peers: tuple[Contender, ...]
    must: float | None


def comparisons(cores: int) -> list[Comparison]:
    """Returns what is compared on a machine of so many cores."""
    one_each = (1,) * cores
    return [
        Comparison(
            "digits MLP study, 500 steps a trial",
            "trials/s",
            (Contender("hpjax, 64 lanes", "digits_hpjax", (0,)),),
            (
                Contender("Optuna + PyTorch, 1 process", "digits_optuna", (1,), "torch"),
                Contender(f"Optuna + PyTorch, {cores} processes", "digits_optuna", one_each, "torch"),
            ),
            3.5,
        ),
        Comparison(
            "MNIST CNN, batch 64",
            "trial-steps/s",
            (
                Contender("hpjax, one run", "cnn_hpjax", (0,)),
                Contender(f"hpjax, {2 * cores} lanes", "cnn_hpjax", (2 * cores,)),
            ),
            (
                Contender(f"PyTorch, {cores} threads", "cnn_torch", (cores,), "torch"),
                Contender(f"PyTorch, {cores} processes", "cnn_torch", one_each, "torch"),
            ),
            None,
        ),
    ]


def measure(contender: Contender) -> list[dict[str, float]]:
    """Returns what each process of a contender measured, all started at once, pinned to a core if there are several."""
    command = [sys.executable, "-m", "benchmarks", contender.workload]
    cores = sorted(os.sched_getaffinity(0))
    several = len(contender.arguments) > 1
    processes = []
    for i, argument in enumerate(contender.arguments):
        mask = {cores[i]} if several else set(cores)
        # A process inherits its cores; the parent takes its own back below.
        os.sched_setaffinity(0, mask)
        processes.append(subprocess.Popen([*command, str(argument)], stdout=subprocess.PIPE, text=True))
    os.sched_setaffinity(0, cores)
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"benchmark {contender.name} failed")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def compare(comparison: Comparison) -> dict[str, Any]:
    """Measures a comparison's contenders in turn, prints each round, and returns the medians."""
    present = [c for c in (*comparison.ours, *comparison.peers) if importlib.util.find_spec(c.needs)]
    rates: dict[str, list[float]] = {c.name: [] for c in present}
    print(f"\n{comparison.title} ({comparison.unit})", flush=True)
    for number in range(ROUNDS):
        for contender in present:
            results = measure(contender)
            rates[contender.name].append(sum(result["rate"] for result in results))
            extra = "  ".join(f"{k} {v:.3g}" for k, v in results[0].items() if k != "rate")
            print(f"  round {number + 1}  {contender.name:<34} {rates[contender.name][-1]:8.2f}  {extra}", flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, median in medians.items():
        print(f"  median   {name:<34} {median:8.2f}   ({min(rates[name]):.2f} to {max(rates[name]):.2f})")
    ours = max(medians[c.name] for c in comparison.ours)
    peers = [medians[c.name] for c in comparison.peers if c.name in medians]
    ratio = ours / max(peers) if peers else None
    if ratio is None:
        print("  no peer is installed: pip install '.[oracles]'")
    else:
        asked = "" if comparison.must is None else f"; asked for: {comparison.must} x"
        print(f"  ratio of medians, best against the peers' best: {ratio:.2f} x{asked}", flush=True)
    return {"title": comparison.title, "unit": comparison.unit, "medians": medians, "rates": rates, "ratio": ratio}


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draws every contender's median, and its range, as bars."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(6 * len(results), 3), layout="constrained", squeeze=False)
    for axis, result in zip(axes.flat, results, strict=True):
        names = list(result["medians"])[::-1]
        middle = [result["medians"][name] for name in names]
        spread = [[m - min(result["rates"][n]) for n, m in zip(names, middle, strict=True)]]
        spread.append([max(result["rates"][n]) - m for n, m in zip(names, middle, strict=True)])
        colours = ["tab:blue" if name.startswith("hpjax") else "tab:gray" for name in names]
        bars = axis.barh(names, middle, xerr=spread, color=colours)
        axis.bar_label(bars, [f" {value:.3g}" for value in middle], padding=8)
        axis.set(title=result["title"], xlabel=result["unit"])
        axis.margins(x=0.18)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Runs one workload and prints its figures as JSON, or all comparisons."""
    if len(sys.argv) == 3:
        from benchmarks import workloads

        print(json.dumps(getattr(workloads, sys.argv[1])(int(sys.argv[2]))))
        return
    cores = len(os.sched_getaffinity(0))
    versions = {name: importlib.metadata.version(name) for name in ("jax", "optuna")}
    print(f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, {versions}")
    results = [compare(comparison) for comparison in comparisons(cores)]
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "bench.json").write_text(json.dumps(results, indent=1))
    draw(results, OUT / "bench.png")
    print(f"\nwritten: {OUT / 'bench.json'}, {OUT / 'bench.png'}")


if __name__ == "__main__":
    main()
