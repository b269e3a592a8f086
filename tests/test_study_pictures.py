"""The pictures of a study: what is drawn where, in every case that a study can come to."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection, QuadMesh
from PIL import Image

from hpjax.objective import Objective
from hpjax.study import axes, pictures
from hpjax.study.axes import BEST, DIVERGED, DONE, STOPPED
from hpjax.study.heat import telling_pair
from hpjax.study.records import SettingSummary, Status, TrialRecord
from hpjax.study.table import group
from study_records import SCALES, trials

ACCURACY = Objective("val/accuracy", True, "best")
LOSS = Objective("val/loss", False, "best")


def summary(setting: int, value: float, status: Status = "done", **values: Any) -> SettingSummary:
    return SettingSummary(setting, values, [setting], value, math.nan, status)


def dots(figure: Any, colour: str) -> np.ndarray:
    """The places of the scattered marks of one colour, [marks, 2]."""
    rgb = tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    found = [
        collection.get_offsets()
        for collection in figure.axes[0].collections
        if len(collection.get_facecolor()) and tuple(collection.get_facecolor()[0][:3]) == rgb
    ]
    return np.concatenate([np.empty((0, 2)), *map(np.asarray, found)])


def legend(figure: Any) -> list[str]:
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


# All of them.


@pytest.mark.parametrize(
    ("names", "settings", "diverged", "maps"),
    [
        (("learning_rate",), 20, 0.1, 0),
        (("learning_rate", "optimizer"), 2, 0.0, 1),
        (("learning_rate", "momentum", "batch_size"), 12, 0.3, 3),
        (tuple(SCALES), 40, 0.3, 1),
        (("learning_rate", "optimizer"), 8, 1.0, 1),
        (("learning_rate", "momentum"), 0, 0.0, 1),
        (tuple(SCALES), 0, 0.0, 1),
    ],
)
def test_every_picture_of_any_study_is_a_png(
    tmp_path: Path, rng: np.random.Generator, names: tuple[str, ...], settings: int, diverged: float, maps: int
) -> None:
    records = trials(rng, settings, diverged=diverged, stopped=0.2, names=names)
    scales: Any = {name: SCALES[name] for name in names}
    paths = pictures.draw_all(records, group(records, ACCURACY, "mean"), ACCURACY, scales, tmp_path / "pictures")
    assert sorted(paths) == sorted((tmp_path / "pictures").iterdir())
    assert paths[: 1 + len(names)] == [
        tmp_path / "pictures" / f"{n}.png" for n in ["curves", *(f"against_{n}" for n in names)]
    ]
    assert len(paths) == 1 + len(names) + maps
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 300


# Against one hyperparameter.


def test_dots_stand_at_value_and_objective_and_the_infeasible_at_the_foot() -> None:
    summaries = [
        summary(0, 0.5, learning_rate=0.001),
        summary(1, 0.9, learning_rate=0.01),
        summary(2, 0.4, "stopped", learning_rate=0.1),
        summary(3, math.nan, "diverged", learning_rate=1.0),
        summary(4, 0.7),
    ]
    figure = pictures.against([], summaries, ACCURACY, "learning_rate", "log")
    axis = figure.axes[0]
    assert dots(figure, DONE).tolist() == [[0.001, 0.5], [0.01, 0.9]]
    assert dots(figure, STOPPED).tolist() == [[0.1, 0.4]]
    assert dots(figure, BEST).tolist() == [[0.01, 0.9]]
    ((x, foot),) = dots(figure, DIVERGED).tolist()
    assert x == 1.0
    assert 0 < foot < axes.FOOT
    assert axis.get_xscale() == "log"
    assert axis.get_xlabel() == "learning_rate (log scale)"
    assert axis.get_ylabel() == "val/accuracy (more is better)"
    assert "1 have no learning_rate" in axis.get_title("left")
    assert legend(figure) == ["stopped or not ended (1)", "done (2)", "diverged (1)", "best: 0.01 gives 0.9"]
    low, high = axis.get_xlim()
    assert low < 0.001
    assert high > 1.0


def test_the_spread_over_seeds_is_a_line_of_its_length() -> None:
    summaries = [SettingSummary(0, {"momentum": 0.5}, [0, 1], 0.8, 0.05, "done")]
    records = [TrialRecord(i, 0, {"momentum": 0.5}, (), "done", objective=o) for i, o in enumerate((0.75, 0.85))]
    figure = pictures.against(records, summaries, ACCURACY, "momentum")
    (bars,) = [one for one in figure.axes[0].collections if isinstance(one, LineCollection)]
    np.testing.assert_allclose(bars.get_segments()[0], [[0.5, 0.75], [0.5, 0.85]], rtol=1e-12)
    assert [0.5, 0.85] in dots(figure, DONE).tolist(), "the trials are small dots"


def test_categories_stand_side_by_side(rng: np.random.Generator) -> None:
    kinds = ["sgd", "adamw", None]
    summaries = [summary(i, float(rng.random()), optimizer=kinds[i % 3]) for i in range(30)]
    figure = pictures.against([], summaries, ACCURACY, "optimizer", "category")
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["sgd", "adamw", "none"]
    at = dots(figure, DONE)[:, 0]
    assert np.round(at).tolist() == [i % 3 for i in range(30)]
    assert len(np.unique(at)) == 30, "none hides another"


def test_numbers_of_a_category_are_in_order_and_a_zero_has_no_logarithm() -> None:
    found = axes.places("batch_size", [128, 32, 64, 32], "category")
    assert found.labels == ["32", "64", "128"]
    assert found.of.tolist() == [2, 0, 1, 0]
    assert axes.places("weight_decay", [0.0, 0.1], "log").scale == "linear"
    assert axes.places("weight_decay", [0.01, 0.1], "log").scale == "log"


def test_the_range_by_hand() -> None:
    # No wild values: the ends with 5 % of room.
    assert axes.span([0.0, 0.5, 1.0], ACCURACY) == (-0.05, 1.05, 0)
    # The least is 0.1, the middle 0.2: shown up to 0.2 + 5 * 0.1 = 0.7, and 5 % of 0.6 on both sides.
    low, high, outside = axes.span([0.1, 0.15, 0.2, 0.3, 1e6, math.nan], LOSS)
    assert (low, high) == pytest.approx((0.1 - 0.03, 0.7 + 0.03), rel=1e-12)
    assert outside == 1
    # More is better: what lies far above is the best, and shown.
    assert axes.span([0.1, 0.15, 0.2, 0.3, 1e6], ACCURACY).outside == 0
    for values in ([], [math.nan], [0.5], [0.5, 0.5], [0.0]):
        low, high, outside = axes.span(values, ACCURACY)
        assert low < high
        assert outside == 0
        assert all(low < value < high for value in values if math.isfinite(value))


# Curves.


def test_curves_are_collections_with_the_best_in_front(rng: np.random.Generator) -> None:
    records = trials(rng, 100, 2, diverged=0.2, stopped=0.3)
    summaries = group(records, ACCURACY, "mean")
    figure = pictures.learning_curves(records, summaries, ACCURACY)
    axis = figure.axes[0]
    front = {tuple(line.get_ydata()) for line in axis.lines}
    best = max((one for one in summaries if one.status == "done"), key=lambda one: one.value)
    assert front == {tuple(m.value for m in records[number].curve) for number in best.numbers}
    collections = [one for one in axis.collections if isinstance(one, LineCollection)]
    assert len(collections) == 3, "ten thousand trials are no ten thousand artists"
    drawn = sum(len(one.get_segments()) for one in collections)
    finite = [sum(math.isfinite(m.value) for m in record.curve) for record in records]
    assert drawn == sum(count > 1 for count in finite) - len(best.numbers)
    counts = {status: sum(record.status == status for record in records) for status in ("stopped", "diverged", "done")}
    words = ["stopped or not ended", "diverged", "done"]
    assert legend(figure)[:3] == [f"{word} ({n})" for word, n in zip(words, counts.values(), strict=True)]
    assert len(dots(figure, DIVERGED)) == sum(f > 0 for f, r in zip(finite, records, strict=True) if r.status == "diverged")


# Maps.


def test_cells_hold_the_median_of_their_settings() -> None:
    values = {(0.1, 8): [0.5, 0.7, 0.9], (0.1, 64): [0.4], (1.0, 8): [0.2, 0.4], (1.0, 64): []}
    points = [(x, y, value) for (x, y), found in values.items() for value in found]
    summaries = [summary(i, value, learning_rate=x, batch_size=y) for i, (x, y, value) in enumerate(points)]
    summaries.append(summary(9, math.nan, "diverged", learning_rate=1.0, batch_size=64))
    scales: Any = {"learning_rate": "log", "batch_size": "log"}
    figure = pictures.heat_map(summaries, ACCURACY, "learning_rate", "batch_size", scales)
    (mesh,) = [one for one in figure.axes[0].collections if isinstance(one, QuadMesh)]
    cells = np.ma.filled(mesh.get_array(), np.nan).reshape(2, 2)
    # Rows are batch sizes, columns learning rates.
    np.testing.assert_allclose(cells, [[0.7, 0.3], [0.4, np.nan]], rtol=1e-12)
    # The border between 0.1 and 1 is half-way on the log axis.
    assert mesh.get_coordinates()[0, 1, 0] == pytest.approx(math.sqrt(0.1), rel=1e-12)
    assert dots(figure, BEST).tolist() == [[0.1, 8]]
    assert figure.axes[1].get_ylabel() == "val/accuracy (more is better)"


def test_the_pair_that_tells_most_is_the_one_that_decides(rng: np.random.Generator) -> None:
    names = ("a", "b", "c", "d")
    scales: Any = dict.fromkeys(names, "linear")
    for first, second in itertools.combinations(names, 2):
        summaries = []
        for i, point in enumerate(rng.random((200, 4)).tolist()):
            values = dict(zip(names, point, strict=True))
            summaries.append(summary(i, math.exp(3 * values[first]) + math.exp(3 * values[second]), **values))
        assert telling_pair(summaries, ACCURACY, scales) == (first, second)
