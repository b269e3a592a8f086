"""The confusion matrix, and the examples that the winner is most wrong about: as pictures where they are such."""

import base64
import io

import numpy as np

from hpjax.report.chart import Axis, Chart, Surface
from hpjax.report.example import Example
from hpjax.report.predictions import Predictions

MOST_CLASSES = 40
"""Of a matrix; of more classes the ones that are mixed up most often."""
WRITTEN = 20
"""Classes up to which the counts stand in the cells."""
WORST = 12
"""Examples that are shown."""
SIDE = 84
"""Pixels of an example's picture."""
MOST_VALUES = 8
"""Values of an example that is no picture: the ones furthest from their mean."""


def matrix(found: Predictions) -> Chart:
    """Returns the confusion matrix: a row for each label, a column for what was taken."""
    count = len(found.classes)
    cells = np.zeros((count, count), int)
    np.add.at(cells, (found.labels, found.taken), 1)
    keep = np.arange(count)
    if count > MOST_CLASSES:
        mixed = cells.sum(0) + cells.sum(1) - 2 * cells.diagonal()
        keep = np.sort(np.argsort(-mixed, kind="stable")[:MOST_CLASSES])
    shown = cells[np.ix_(keep, keep)]
    names = tuple(found.classes[i] for i in keep)
    texts = [[str(value) if value else "" for value in row] for row in shown.tolist()] if len(names) <= WRITTEN else None
    right = int((found.taken == found.labels).sum())
    fewer = f" The {MOST_CLASSES} classes that are mixed up most often." if count > MOST_CLASSES else ""
    places = [float(i) for i in range(len(names))]
    return Chart(
        "confusion",
        "Confusion matrix",
        Axis("taken for", labels=names, ends=(-0.5, len(names) - 0.5)),
        Axis("label", labels=names, ends=(len(names) - 0.5, -0.5)),
        surface=Surface(places, places, shown.tolist(), "examples", smooth=False, colours="count", texts=texts),
        caption=f"{found.split} split, trial {found.trial}: {right:,} of {len(found.labels):,} right.{fewer}",
        height=460,
        square=True,
    )


def worst(found: Predictions) -> list[Example]:
    """Returns the examples that the winner is most wrong about, the worst first."""
    chosen = found.worst[:WORST]
    pictures = _are_pictures(found.inputs)
    low, high = (float(found.inputs.min()), float(found.inputs.max())) if len(chosen) else (0.0, 1.0)
    mean, spread = found.inputs.mean(0), found.inputs.std(0)
    result = []
    for i in chosen:
        label, taken = (found.classes[one[i]] for one in (found.labels, found.taken))
        words = f"{label}, taken for {taken} ({found.sure[i]:.0%} sure)"
        one = found.inputs[i]
        picture = _png(one, low, high) if pictures else ""
        result.append(Example(picture, "" if pictures else _values(one, mean, spread), f"#{i}: {words}"))
    return result


def _are_pictures(inputs: np.ndarray) -> bool:
    """Returns whether examples are [height, width, channels] with one, three or four channels."""
    return inputs.ndim == 4 and inputs.shape[-1] in (1, 3, 4) and min(inputs.shape[1:3]) > 1


def _png(example: np.ndarray, low: float, high: float) -> str:
    from PIL import Image

    # Bytes of real pictures are shown as they are; others (digits have 16 greys) over the range that they have.
    as_bytes = example.dtype == np.uint8 and high > 100
    scaled = example if as_bytes else (255 * (example.astype(float) - low) / max(high - low, 1e-12)).astype(np.uint8)
    image = Image.fromarray(scaled[..., 0] if scaled.shape[-1] == 1 else scaled)
    times = SIDE / max(image.size)
    width, height = (max(round(side * times), 1) for side in image.size)
    image = image.resize((width, height), Image.Resampling.NEAREST if times >= 1 else Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _values(example: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> str:
    flat, away = example.reshape(-1), (np.abs(example - mean) / np.maximum(spread, 1e-12)).reshape(-1)
    if len(flat) <= MOST_VALUES:
        return ", ".join(f"{value:.4g}" for value in flat)
    most = np.sort(np.argsort(-away, kind="stable")[:MOST_VALUES])
    return ", ".join(f"x{i}: {flat[i]:.4g}" for i in most)
