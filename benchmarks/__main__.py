"""`make bench`: hpjax and its peers in turn, A B A B, each in processes of its own; medians, their ratio and pictures.

`python -m benchmarks NAME...` makes the named comparisons only: digits, study, large, asha, cnn, resnet, transformer,
update_momentum, update_adamw, update_lars, update_lamb, conv_forward, conv_to_input, conv_to_kernel; and with `_bf16` behind
its name digits, study, large, cnn, resnet or transformer with products of bfloat16.
"""

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
    """hpjax's best contender against the peers' best; `must` is the ratio that was asked for, or None.

    What is `beside` them is measured in the same turns, and has a ratio of its own.
    """

    title: str
    unit: str
    ours: tuple[Contender, ...]
    peers: tuple[Contender, ...]
    must: float | None
    beside: tuple[Contender, ...] = ()


def comparisons(cores: int) -> dict[str, Comparison]:
    """Returns what is compared on a machine of so many cores, by name."""
    one_each = (1,) * cores

    def steps(title: str, workload: str, lanes: int, dtype: str = "", must: float | None = None) -> Comparison:
        """Returns training steps of one network against PyTorch's, in float32 or with `_bf16`."""
        ours = (
            Contender("hpjax, one run", f"{workload}_hpjax{dtype}", (0,)),
            Contender(f"hpjax, {lanes} lanes", f"{workload}_hpjax{dtype}", (lanes,)),
        )
        peers = (
            Contender(f"PyTorch, {cores} threads", f"{workload}_torch{dtype}", (cores,), "torch"),
            Contender(f"PyTorch, {cores} processes", f"{workload}_torch{dtype}", one_each, "torch"),
        )
        return Comparison(title, "trial-steps/s", ours, peers, must)

    def in_bf16(comparison: Comparison, must: float | None) -> Comparison:
        """Returns a study's comparison with hpjax in bfloat16; the peers' products are too small to gain by it."""
        ours = tuple(c._replace(name=f"{c.name}, bf16", workload=f"{c.workload}_bf16") for c in comparison.ours)
        return comparison._replace(title=f"{comparison.title}, bf16", ours=ours, must=must)

    def update(name: str, peer: str, must: float) -> Comparison:
        """Returns an optimizer's step over ResNet-50's tensors against a peer's."""
        ours = Contender(f"hpjax, {cores} threads", f"update_{name}_hpjax", (cores,))
        peers = Contender(f"{peer}, {cores} threads", f"update_{name}_{peer}", (cores,), peer)
        return Comparison(f"{name} over ResNet-50's tensors", "steps/s", (ours,), (peers,), must)

    def convolution(part: str, title: str) -> Comparison:
        """Returns a convolution's part on one core against the rate of a large product there."""
        ours = Contender(f"hpjax, {title}", f"conv_{part}_hpjax", (1,))
        peers = (
            Contender("NumPy, product of 1,024 x 1,024", "product_numpy", (1,)),
            Contender("PyTorch, the same", "product_torch", (1,), "torch"),
        )
        return Comparison(f"convolution 3 x 3, 16 to 32, one core: {title}", "GF/s", (ours,), peers, 0.7)

    study = Comparison(
        "digits MLP study, 500 steps a trial",
        "trials/s",
        (Contender("hpjax, 64 lanes", "digits_hpjax", (0,)),),
        (
            Contender("Optuna + PyTorch, 1 process", "digits_optuna", (1,), "torch"),
            Contender(f"Optuna + PyTorch, {cores} processes", "digits_optuna", one_each, "torch"),
        ),
        3.5,
    )
    peers = study.peers
    whole = Comparison(
        "digits study of 256 trials, compiling and all host work included",
        "trials/s",
        (Contender("hpjax.run_sweep, 256 trials", "study_hpjax", (256,)),),
        peers,
        3.5,
        (Contender("jax.vmap by hand, 256 trials", "study_vmap", (256,)),),
    )
    large = Comparison(
        "digits study of 2,000 trials, all included",
        "trials/s",
        (Contender("hpjax.run_sweep, 2,000 trials", "study_hpjax", (2000,)),),
        peers,
        6.0,
    )
    stopped = Comparison(
        "ASHA against all to their ends, 1,024 digits trials with 27 evaluations",
        "trials/s",
        (Contender("ASHA", "study_asha", (1024,)), Contender("ASHA, promotion", "study_promotion", (1024,))),
        (Contender("all to their ends", "study_every", (1024,)),),
        4.0,
    )
    return {
        "digits": study,
        "study": whole,
        "large": large,
        "asha": stopped,
        "cnn": steps("MNIST CNN, batch 64", "cnn", 64, must=2.0),
        "resnet": steps("ResNet-20, batch 128", "resnet", cores, must=1.3),
        "transformer": steps("transformer, batch 12 x 64", "transformer", 8, must=1.5),
        "update_momentum": update("momentum", "torch", 0.95),
        "update_adamw": update("adamw", "torch", 0.95),
        "update_lars": update("lars", "optax", 5.0),
        "update_lamb": update("lamb", "optax", 3.0),
        "conv_forward": convolution("forward", "forward"),
        "conv_to_input": convolution("to_input", "to its input"),
        "conv_to_kernel": convolution("to_kernel", "to its kernel"),
        "digits_bf16": in_bf16(study, 8.0),
        "study_bf16": in_bf16(whole, None),
        "large_bf16": in_bf16(large, 8.0),
        "cnn_bf16": steps("MNIST CNN, batch 64, bf16", "cnn", 64, "_bf16", 2.0),
        "resnet_bf16": steps("ResNet-20, batch 128, bf16", "resnet", cores, "_bf16", 1.3),
        "transformer_bf16": steps("transformer, batch 12 x 64, bf16", "transformer", 8, "_bf16", 2.0),
    }


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
    every = (*comparison.ours, *comparison.peers, *comparison.beside)
    present = [c for c in every if importlib.util.find_spec(c.needs)]
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
    for contender in comparison.beside:
        print(f"  against {contender.name}: {ours / medians[contender.name]:.2f} x", flush=True)
    return {
        **{"title": comparison.title, "unit": comparison.unit, "must": comparison.must, "ratio": ratio},
        **{"ours": [c.name for c in comparison.ours], "medians": medians, "rates": rates},
    }


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draws every contender's median, and its range, as bars, two comparisons a row."""
    plt = _pyplot()
    columns = min(len(results), 2)
    rows = -(-len(results) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(7 * columns, 2.4 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(results) :]:
        axis.remove()
    for axis, result in zip(axes.flat, results, strict=False):
        names = list(result["medians"])[::-1]
        middle = [result["medians"][name] for name in names]
        spread = [[m - min(result["rates"][n]) for n, m in zip(names, middle, strict=True)]]
        spread.append([max(result["rates"][n]) - m for n, m in zip(names, middle, strict=True)])
        colours = ["tab:blue" if name in result["ours"] else "tab:gray" for name in names]
        bars = axis.barh(names, middle, xerr=spread, color=colours)
        axis.bar_label(bars, [f" {value:.3g}" if value < 1000 else f" {value:,.0f}" for value in middle], padding=8)
        axis.set_title(result["title"], loc="right", fontsize=10)
        axis.set_xlabel(result["unit"])
        axis.margins(x=0.18)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_ratios(results: list[dict[str, Any]], path: Path) -> None:
    """Draws by how much hpjax's best is faster than the peers' best, a bar a comparison, and what was asked for."""
    plt = _pyplot()
    found = [result for result in results if result["ratio"] is not None][::-1]
    figure, axis = plt.subplots(figsize=(10, 0.32 * len(found) + 1.0), layout="constrained")
    axis.barh([result["title"] for result in found], [result["ratio"] for result in found], color="tab:blue")
    for place, result in enumerate(found):
        axis.text(1.01, place, f"{result['ratio']:.2f} x", va="center", transform=axis.get_yaxis_transform())
    asked = [(place, result["must"]) for place, result in enumerate(found) if result["must"] is not None]
    places, ratios = [place for place, _ in asked], [must for _, must in asked]
    axis.scatter(ratios, places, marker="|", s=160, linewidths=2.5, color="tab:orange", zorder=3, label="asked for")
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.set(xscale="log", xlabel="times the rate of the best peer")
    ticks = [0.5, 1, 2, 4, 8]
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.margins(x=0.05, y=0.01)
    axis.legend(loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def record(results: dict[str, dict[str, Any]]) -> None:
    """Writes the figures and their picture; of a comparison that was not made this time the last ones stay."""
    path = OUT / "bench.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    results = {**known, **results}
    OUT.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1))
    draw_ratios(list(results.values()), OUT / "bench.png")
    draw(list(results.values()), OUT / "rates.png")
    print(f"\nwritten: {path}, {OUT / 'bench.png'}, {OUT / 'rates.png'}")


def main() -> None:
    """Makes the comparisons that were named, or all; WORKLOAD NUMBER runs one workload and prints its figures as JSON."""
    given = sys.argv[1:]
    if len(given) == 2 and given[1].isdigit():
        from benchmarks import workloads

        name = given[0].removesuffix("_bf16")
        more = {} if name == given[0] else {"bf16": True}
        print(json.dumps(getattr(workloads, name)(int(given[1]), **more)))
        return
    cores = len(os.sched_getaffinity(0))
    known = comparisons(cores)
    for name in given:
        if name not in known:
            raise SystemExit(f"comparison '{name}' is unknown; known: {', '.join(known)}")
    versions = {name: importlib.metadata.version(name) for name in ("jax", "optuna")}
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.machine()}, {cores} cores, load {load}, Python {platform.python_version()}, {versions}")
    record({name: compare(known[name]) for name in given or known})


if __name__ == "__main__":
    main()
