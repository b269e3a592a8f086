"""What was found inside a run, as text and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpjax.errors import ConfigError
from hpjax.inspection.finished import Inspected
from hpjax.inspection.histograms import Histogram

PARAMETERS = {"gradient_norm": "gradient", "update_norm": "update", "parameter_norm": "parameter", "update_ratio": "ratio"}
ACTIVATIONS = {"activation_rms": "rms", "activation_max": "max", "activation_zeros": "zeros"}
KINDS = ("gradient", "update", "parameter", "activation")


def text(found: Inspected) -> str:
    """Returns tables for the screen: a line a layer, then what is of the whole model."""
    parts = [
        _table("parameters: L2 norms, update / parameter", found.values, PARAMETERS),
        _table("activations, evaluation mode", found.values, ACTIVATIONS),
        *(_histograms(kind, found.histograms) for kind in KINDS),
        _noise(found.values),
        _sharpness(found.values),
    ]
    return "\n\n".join([f"step {found.step}", *filter(None, parts)]) + "\n"


def paths(names: Mapping[str, Any], kind: str) -> list[str]:
    """Returns the layers that have a value of a kind."""
    return [name.removeprefix(f"{kind}/") for name in names if name.startswith(f"{kind}/")]


def _table(title: str, values: Mapping[str, float], columns: Mapping[str, str]) -> str:
    layers = paths(values, next(iter(columns)))
    cells = [[f"{values.get(f'{kind}/{layer}', float('nan')):.4g}" for kind in columns] for layer in layers]
    return _aligned(title, list(columns.values()), layers, cells)


def _histograms(kind: str, found: Mapping[str, Histogram]) -> str:
    layers = paths(found, kind)
    cells = []
    for layer in layers:
        histogram = found[f"{kind}/{layer}"]
        number = max(int(histogram.counts.sum()), 1)
        mean = float(histogram.sum) / number
        deviation = max(float(histogram.sum_squares) / number - mean**2, 0.0) ** 0.5
        cells.append([f"{float(v):.4g}" for v in (histogram.min, histogram.max, mean, deviation)])
    return _aligned(f"{kind}: distribution", ["min", "max", "mean", "deviation"], layers, cells)


def _aligned(title: str, columns: Sequence[str], layers: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    if not layers:
        return ""
    width = max(map(len, layers))
    lines = [f"{'':<{width}}  " + "  ".join(f"{column:>10}" for column in columns)]
    lines += [f"{layer:<{width}}  " + "  ".join(f"{c:>10}" for c in row) for layer, row in zip(layers, cells, strict=True)]
    return "\n".join([title, *(line.rstrip() for line in lines)])


def _noise(values: Mapping[str, float]) -> str:
    if "noise_scale" not in values:
        return ""
    scale, error = values["noise_scale"], values["noise_scale/error"]
    return f"noise_scale  {scale:.4g} examples (standard error {error:.2g})"


def _sharpness(values: Mapping[str, float]) -> str:
    numbers = paths(values, "sharpness")
    return "\n".join(
        f"sharpness/{i}  {values[f'sharpness/{i}']:.6g} (within {values[f'sharpness_error/{i}']:.2g})" for i in numbers
    )


def draw(found: Inspected, path: str) -> None:
    """Draws the layers' norms as bars and the eigenvalues as points.

    Raises:
      ConfigError: there is nothing to draw, or the picture cannot be written.
    """
    from matplotlib.figure import Figure

    panels = [(title, kinds) for title, kinds in _PANELS.items() if paths(found.values, kinds[0])]
    if not panels:
        raise ConfigError("plot: nothing to draw; expected inspect to have norms or sharpness")
    rows = [max(len(paths(found.values, kinds[0])), 3) for _, kinds in panels]
    figure = Figure(figsize=(8, 1.5 * len(panels) + 0.3 * sum(rows)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axis, (title, kinds) in zip(axes, panels, strict=True):
        axis.set_title(title, loc="left")
        _bars(axis, found.values, kinds) if kinds[0] != "sharpness" else _points(axis, found.values)
    figure.suptitle(f"step {found.step}")
    try:
        figure.savefig(Path(path).expanduser())
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigError(f"plot is '{path}', which cannot be written: {reason}") from None


_PANELS = {
    "L2 norm of parameters, gradient and update": ("parameter_norm", "gradient_norm", "update_norm"),
    "activations, root mean square": ("activation_rms",),
    "largest Hessian eigenvalues": ("sharpness",),
}


def _bars(axis: Any, values: Mapping[str, float], kinds: Sequence[str]) -> None:
    layers = paths(values, kinds[0])
    height = 0.8 / len(kinds)
    for i, kind in enumerate(kinds):
        sizes = [values.get(f"{kind}/{layer}", np.nan) for layer in layers]
        axis.barh(np.arange(len(layers)) + i * height, sizes, height, label=kind.partition("_")[0])
    axis.set_yticks(np.arange(len(layers)) + 0.4 - height / 2, layers)
    axis.invert_yaxis()
    if any(values.get(f"{kind}/{layer}", 0) > 0 for kind in kinds for layer in layers):
        axis.set_xscale("log")
    if len(kinds) > 1:
        axis.legend()


def _points(axis: Any, values: Mapping[str, float]) -> None:
    numbers = paths(values, "sharpness")
    sizes = [values[f"sharpness/{i}"] for i in numbers]
    errors = [values[f"sharpness_error/{i}"] for i in numbers]
    axis.errorbar(range(1, len(numbers) + 1), sizes, yerr=errors, fmt="o", capsize=3)
    axis.set_xticks(range(1, len(numbers) + 1))
