"""The report of a recipe: its files, in every case that a recipe can come to."""

import contextlib
import csv
import dataclasses
import html
import json
import math
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import plotly.graph_objects
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hpjax import build, resolve
from hpjax.config import Config
from hpjax.recipe.finding import Finding, Note
from hpjax.recipe.folder import RecipeFolder
from hpjax.recipe.recipe import Tuned
from hpjax.report import (
    __main__,
    confusion,
    hard_text,
    importance,
    interactions,
    interactive,
    material,
    parallel,
    predictions,
    sections,
    ticks,
    timing,
    words,
    write,
)
from hpjax.report.places import axis_name, places
from hpjax.report.predictions import Predictions
from hpjax.report.words import headline
from hpjax.study import kept
from hpjax.study.records import SettingSummary, TrialRecord
from hpjax.study.study import load_study
from recipe_findings import CONFIG, NAMES, OBJECTIVE, curves, first_steps, search, write_recipe, write_study
from study_records import trials

MOST_BYTES, MOST_SECONDS = 15e6, 10.0


def whole(rng: np.random.Generator, path: Path, settings: int, diverged: float = 0.1, evaluations: int = 10) -> Tuned:
    """A recipe with all its steps."""
    studies = {
        "coarse": trials(rng, settings, 1, evaluations, diverged=diverged, stopped=0.6, names=NAMES),
        "refine": trials(rng, settings, 1, evaluations, diverged=diverged, stopped=0.4, names=NAMES),
        "confirm": trials(rng, min(settings, 4), 3, 12, diverged=diverged, names=NAMES),
    }
    findings = {**first_steps(rng), **{step: search(step, records) for step, records in studies.items()}, "curves": curves()}
    return write_recipe(path / "tune", findings, studies)


def charts(page: str) -> dict[str, Any]:
    found = re.search(r'id="charts-data">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def check_files(tuned: Tuned) -> str:
    """Every file is there, whole, within its limits; returns the page."""
    page = tuned.report.read_text()
    assert len(page.encode()) < MOST_BYTES
    assert not re.search(r'<(link|script|img|iframe)[^>]*(src|href)="(?!data:)', page), "nothing is loaded from elsewhere"
    for name, chart in charts(page).items():
        # Plotly refuses what it does not know; `@done` stands for a colour.
        plain = json.loads(re.sub(r'"@\w+"', '"#123456"', json.dumps(chart)))
        plotly.graph_objects.Figure(plain)
        assert any(len(trace.get("x", ())) or "z" in trace for trace in chart["data"]), f"{name} is empty"
    text = (tuned.path / "report.md").read_text()
    for file in re.findall(r"\]\(([^)]*)\)", text):
        assert (tuned.path / file).stat().st_size > 0
    for file in (tuned.path / "pictures").iterdir():
        with Image.open(file) as image:
            assert min(image.size) > 100
    for step, finding in tuned.findings.items():
        assert f'id="{step}"' in page
        for note in finding.notes:
            assert html.escape(note.evidence) in page
            assert html.escape(note.remedy) in page
        for name, table in finding.tables.items():
            with (tuned.path / "tables" / f"{step}_{name}.csv").open() as file:
                rows = list(csv.reader(file))
            assert rows[0] == list(table)
            assert len(rows) == 1 + len(next(iter(table.values()), ()))
    return page


# Every case.


@pytest.mark.parametrize(("settings", "diverged"), [(1, 0.0), (1, 1.0), (6, 0.0), (25, 1.0), (60, 0.3)])
def test_a_report_of_any_study_has_every_file(tmp_path: Path, rng: np.random.Generator, settings: int, diverged: float):
    tuned = whole(rng, tmp_path, settings, diverged)
    page = check_files(tuned)
    for part in ("learning_rate", "throughput", "overfit", "activations", "gradients", "timing", "coarse_curves"):
        assert f'data-chart="{part}"' in page
    assert "refine_momentum" in page
    assert ('data-chart="refine_parallel"' in page) == (settings > 1)
    confirmed = load_study(tuned.path / "confirm").records
    diverged_in = {record.setting for record in confirmed if record.status == "diverged"}
    has_mean = {record.setting for record in confirmed} - diverged_in
    assert ('data-chart="confirm_settings"' in page) == bool(has_mean)
    assert ('data-chart="coarse_importance"' in page) == (settings == 60)
    assert ("too few to say" in page) or settings == 60
    assert "no predictions" not in page, "a study that keeps no parameters has no such tab"


def test_trials_that_a_deadline_stopped_before_they_were_evaluated_are_not_diverged(
    tmp_path: Path, rng: np.random.Generator
):
    records = trials(rng, 30, 1, diverged=0.0, names=NAMES)
    diverged = [TrialRecord(30, 30, {**records[0].values}, (), "diverged", [], math.nan, 3, 0.0, 1.0)]
    cut = [
        TrialRecord(31 + i, 31 + i, {**one.values}, (), "stopped", [], math.nan, None, 0.0, 1.0)
        for i, one in enumerate(records[:5])
    ]
    for place in ("folder", "table"):
        every = [*records, *diverged, *cut]
        studies = {"coarse": every} if place == "folder" else {}
        tuned = write_recipe(tmp_path / place, {"coarse": search("coarse", every)}, studies)
        shown = material.studies(tuned)["coarse"]
        assert [one.number for one in shown.records] == list(range(31))
        assert len(shown.settings) == 31
        assert "diverged (1)" in check_files(tuned)


def test_without_time_the_report_is_shorter_and_says_so(tmp_path: Path, rng: np.random.Generator):
    tuned = whole(rng, tmp_path, 60, 0.0)
    with contextlib.closing(RecipeFolder.open(tuned.path)) as folder:
        assert isinstance(folder, RecipeFolder)
        for file in (tuned.path / "pictures").iterdir():
            file.unlink()
        write(folder, tuned, lambda: 0.0)
        page = tuned.report.read_text()
        assert "coarse_importance" not in charts(page) and "coarse_parallel" in charts(page)
        assert "left out, for the budget was over: python -m hpjax.report FOLDER" in page
        assert not list((tuned.path / "pictures").iterdir())
        assert "](pictures/" not in (tuned.path / "report.md").read_text()
        write(folder, tuned)
    assert "left out, for the budget" not in check_files(tuned)
    assert "coarse_importance" in charts(tuned.report.read_text())


def test_planned_and_spent_time_are_shown(tmp_path: Path, rng: np.random.Generator):
    first = first_steps(rng)
    found = {"initial": dataclasses.replace(first["initial"], seconds=3.0, planned=5.0), "lr": first["lr"]}
    tuned = write_recipe(tmp_path / "tune", found, {})
    cost = (tuned.path / "tables" / "cost.csv").read_text().splitlines()
    assert cost[0].startswith("step,verdict,planned,seconds") and cost[1].startswith("initial,warning,5.0,3.0")
    assert cost[2].startswith("lr,ok,,")
    planned = next(trace for trace in charts(tuned.report.read_text())["timing"]["data"] if trace["name"] == "planned")
    assert planned["x"] == [5.0] and planned["y"] == [0]
    chart = timing.timing(tuned)
    assert "budget" not in chart.caption
    chart = timing.timing(dataclasses.replace(tuned, budget=60.0, used=12.0))
    assert "12 s of a budget of 60 s" in chart.caption


@pytest.mark.slow
def test_two_thousand_trials_are_within_the_limits(tmp_path: Path, rng: np.random.Generator):
    begun = time.process_time()
    tuned = whole(rng, tmp_path, 2)
    alone = time.process_time() - begun
    (tmp_path / "large").mkdir()
    begun = time.process_time()
    tuned = whole(rng, tmp_path / "large", 2000)
    seconds = time.process_time() - begun
    with contextlib.closing(RecipeFolder.open(tuned.path)) as folder:
        assert isinstance(folder, RecipeFolder)
        begun = time.process_time()
        write(folder, tuned)
        of_report = time.process_time() - begun
    print(f"the report alone: {of_report:.1f} s")
    print(f"{seconds:.1f} s of processor time, {alone:.1f} s with two settings; {tuned.report.stat().st_size / 1e6:.1f} MB")
    check_files(tuned)
    # Two studies of 2,000 trials.
    assert of_report < MOST_SECONDS


@pytest.mark.parametrize(
    "steps", [("initial",), ("lr", "batch"), ("coarse",), ("initial", "coarse", "curves"), ("confirm",), ()]
)
def test_steps_that_were_not_made_are_left_out(tmp_path: Path, rng: np.random.Generator, steps: tuple[str, ...]):
    records = {step: trials(rng, 9, 2, names=NAMES) for step in steps if step in ("coarse", "confirm")}
    every = {**first_steps(rng), **{step: search(step, found) for step, found in records.items()}, "curves": curves()}
    tuned = write_recipe(tmp_path / "tune", {step: every[step] for step in steps}, records)
    page = check_files(tuned)
    assert page.count('class="step"') == (len(steps) + 1 if steps else 0)


def test_a_step_that_failed_and_stopped_the_recipe_stands_on_top(tmp_path: Path, rng: np.random.Generator):
    note = Note("gradient", "failed", "the gradient of <kernel> is off by 0.5", "look for a custom_vjp & more")
    stopped = Finding("gradient", (note,), advice="nothing follows", stops=True)
    tuned = write_recipe(tmp_path / "tune", {"initial": first_steps(rng)["initial"], "gradient": stopped}, {})
    page = check_files(tuned)
    top = page.split("<nav")[0]
    assert "stopped at step <b>gradient</b>" in top
    assert "off by 0.5" in top
    assert "custom_vjp &amp; more" in top
    assert "hpjax.train" not in top, "there is nothing to train"
    assert headline(tuned)[0].startswith("stopped at step 'gradient': the gradient of")


def test_a_study_whose_folder_is_lost_is_shown_from_its_table(tmp_path: Path, rng: np.random.Generator):
    records = trials(rng, 30, 1, names=NAMES)
    tuned = write_recipe(tmp_path / "tune", {"coarse": search("coarse", records)}, {})
    page = check_files(tuned)
    assert {"coarse_parallel", "coarse_learning_rate", "coarse_map", "coarse_importance"} <= set(charts(page))
    assert "coarse_curves" not in charts(page)
    shown = material.studies(tuned)["coarse"]
    assert (
        shown.scales == {"learning_rate": "log", "momentum": "linear", "batch_size": "linear"}
        or "log" in shown.scales.values()
    )


def test_what_others_wrote_is_text_and_no_markup(tmp_path: Path):
    bad = "<script>alert(1)</script>$x_1$|`*"
    layers = {"layer": [bad], "kind": ["activation"], "size": [1.0], "dead": [0.0]}
    note = Note("layers", "warning", bad, f"{bad}\u2028")
    tuned = write_recipe(tmp_path / "tune", {"initial": Finding("initial", (note,), tables={"layers": layers})}, {})
    page = check_files(tuned)
    assert "<script>alert" not in page
    assert "\\<script\\>alert" in (tuned.path / "report.md").read_text()


# Words.


def test_the_summary_says_what_to_use_and_how_sure(tmp_path: Path, rng: np.random.Generator):
    tuned = whole(rng, tmp_path, 5)
    found = words.summary(tuned)
    assert found.use == {"learning_rate": "0.1235", "momentum": "0.9"}, "four digits, no seed"
    assert found.sure == ["12 trials"]
    assert found.command == f"python -m hpjax.train --flagfile={tuned.path}/best.flags --run_dir=runs/NAME"
    assert found.then == ["He (initial)"]
    assert [step for step, _ in found.problems] == ["initial"]
    page = tuned.report.read_text().split("<nav")[0]
    assert all(text in page for text in ("0.1235", "a dead layer", f"{tuned.path}/best.flags"))
    lines = headline(tuned)
    assert lines[0] == "use: learning_rate=0.1235, momentum=0.9"
    assert lines[-1] == f"next: {found.command}"


# The parts.


def test_pairs_that_explain_more_than_each_alone_are_found(rng: np.random.Generator):
    a, b, c = rng.uniform(0.5, 2, 3)
    levels = [np.linspace(0, 1, 241)] * 3

    def function(x: np.ndarray) -> np.ndarray:
        return a * x[:, 0] + b * x[:, 1] + c * (x[:, 0] - 0.5) * (x[:, 2] - 0.5)

    found = interactions.pair_shares(function, levels)
    # The variance of a uniform variable is 1 / 12, that of the product of two centred ones 1 / 144.
    assert found[0, 2] == pytest.approx((c**2 / 144) / ((a**2 + b**2) / 12 + c**2 / 144), rel=0.1)
    assert max(found[0, 1], found[1, 2]) < 1e-12


def test_interactions_of_a_study(rng: np.random.Generator):
    def study(count: int, together: float) -> Any:
        records = []
        for i in range(count):
            rate, momentum = 10 ** rng.uniform(-4, 0), rng.uniform(0, 1)
            size = int(rng.integers(8, 256))
            at = (math.log10(rate) + 2) / 2, 2 * momentum - 1
            value = 0.5 + 0.1 * (at[0] + at[1]) + together * at[0] * at[1] + rng.normal() * 0.005
            values = {"learning_rate": rate, "momentum": momentum, "batch_size": size}
            records.append(TrialRecord(i, i, values, (), "done", [], value, None, 0.0, 1.0))
        return material.of_table("coarse", search("coarse", records).tables["trials"], OBJECTIVE)

    names = {"learning_rate": 0.5, "momentum": 0.4, "batch_size": 0.1}
    strong = interactions.interactions(study(300, 0.3), names)
    assert next(iter(strong.shares)) == ("learning_rate", "momentum")
    # Of the variances 0.01 / 3 and 0.01 / 3 of each, and 0.09 / 9 of both, 0.6; trees split by one at a time, and find less.
    assert 0.3 < strong.shares["learning_rate", "momentum"] < 0.7
    assert all(share < 0.05 for pair, share in strong.shares.items() if "batch_size" in pair)
    none = interactions.interactions(study(300, 0.0), names)
    assert max(none.shares.values()) < 0.05
    assert "tune them one by one" in interactions.chart("coarse", interactions.Interactions({("a", "b"): 0.01}, "x")).caption
    assert "too few" in interactions.interactions(study(20, 0.3), names).said
    assert "no pairs" in interactions.interactions(study(40, 0.3), {}).said


def test_the_hardest_tokens_of_a_text(tmp_path: Path, rng: np.random.Generator):
    torch = pytest.importorskip("torch", reason="needs PyTorch (pip install .[oracles])")
    (tmp_path / "words.txt").write_text("".join(rng.choice(list("abc \n"), 3000)))
    config = resolve.resolve(
        Config(
            dataset="text", text_file=str(tmp_path / "words.txt"), context_length=8, batch_size=4, eval_batch_size=7,
            model="transformer", depth=1, heads=1, width=8, optimizer="adamw", learning_rate=0.01,
        )
    )  # fmt: skip
    dataset = build.load(config)
    model = build.trial(config, dataset).model
    variables = model.init(jax.random.key(1), np.zeros((1, 8), np.int32))
    study: Any = SimpleNamespace(best_config=config, variables=lambda: variables, kept=[5])
    found = hard_text.predict_tokens(dataset, "val", study)
    start, size = dataset.splits["val"]
    assert found.trial == 5 and list(found.windows) == list(range(size)) and size % 7
    places_of = dataset.y[start : start + size][:, None] + np.arange(9)
    np.testing.assert_array_equal(found.tokens, dataset.x[places_of])
    outputs = torch.tensor(np.asarray(model.apply(variables, found.tokens[:, :-1])))
    targets = torch.tensor(found.tokens[:, 1:].astype(np.int64))
    of_torch = torch.nn.functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").numpy()
    np.testing.assert_allclose(found.surprise, of_torch, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.taken, outputs.argmax(-1).numpy())
    shown = hard_text.worst_tokens(found)
    assert len(shown) == hard_text.WORST
    row = int(found.surprise.max(1).argmax())
    column = int(found.surprise[row].argmax())
    names = dataset.class_names
    assert shown[0].words.startswith(f"#{row}: {names[found.tokens[row, column + 1]]!r} (")
    assert (
        shown[0].values
        == "…" + "".join(names[t] for t in found.tokens[row, : column + 1]) + "▸" + names[found.tokens[row, column + 1]]
    )
    chart = hard_text.by_position(found)
    np.testing.assert_allclose(chart.marks[0].y, of_torch.mean(0), rtol=1e-4)


def test_importance_finds_what_matters_and_says_where_it_cannot(rng: np.random.Generator):
    records = trials(rng, 200, 1, diverged=0.0, names=NAMES)
    of = lambda found: material.of_table("coarse", search("coarse", found).tables["trials"], OBJECTIVE)  # noqa: E731
    found = importance.importance(of(records))
    assert next(iter(found.shares)) == "learning_rate", "the level of made-up trials depends on nothing else"
    assert found.shares["learning_rate"] > 0.5
    assert math.isclose(sum(found.shares.values()), 1.0, rel_tol=1e-6)
    assert importance.importance(of(records)) == found, "the same every time"
    few = importance.importance(of(records[:5]))
    assert few.shares == {}
    assert "5 settings ended with a value: too few" in few.said
    alike = [TrialRecord(r.number, r.setting, r.values, (), "done", [], 0.5) for r in records]
    assert "nothing to explain" in importance.importance(of(alike)).said


@pytest.mark.parametrize("shape", [(8, 8, 1), (40, 30, 3), (3,), (50,)])
def test_the_worst_examples_are_pictures_or_rows(rng: np.random.Generator, shape: tuple[int, ...]):
    labels, taken = np.arange(30) % 3, np.zeros(30, int)
    inputs = rng.integers(0, 17, (30, *shape)).astype(np.uint8 if len(shape) == 3 else np.float32)
    surprise = rng.random(30)
    found = Predictions("val", labels, taken, surprise, np.full(30, 0.9), inputs, ("a", "b", "c"), 7)
    shown = confusion.worst(found)
    assert len(shown) == confusion.WORST
    first = int(shown[0].words[1:].split(":")[0])
    assert surprise[first] == surprise[labels != 0].max()
    assert "taken for a (90% sure)" in shown[0].words
    assert bool(shown[0].picture) == (len(shape) == 3)
    assert bool(shown[0].values) == (len(shape) == 1)
    chart = confusion.matrix(found)
    assert chart.surface is not None
    assert chart.surface.values == [[10, 0, 0], [10, 0, 0], [10, 0, 0]]
    assert "10 of 30 right" in chart.caption


@pytest.mark.parametrize(("low", "high"), [(1e-5, 10), (0.003, 0.5), (12, 90), (16, 32), (0.99, 1.01), (1e-12, 1e12)])
def test_a_log_axis_has_a_few_round_marks(low: float, high: float):
    found = ticks.log_ticks(low, high)
    assert 3 <= len(found) <= ticks.MOST
    assert all(low * 0.999 <= one <= high * 1.001 for one in found)
    assert all(len(ticks.short(one)) <= 7 for one in found)


def test_numbers_are_short():
    assert [ticks.short(one) for one in (0.003, 1e-5, 3e-5, 20000, 0, 2.5e7, 1)] == [
        *("0.003", "10⁻⁵", "3·10⁻⁵", "20,000", "0", "2.5·10⁷", "1")
    ]


def test_points_carry_their_trial(tmp_path: Path, rng: np.random.Generator):
    tuned = whole(rng, tmp_path, 12)
    studies = material.studies(tuned)
    for section in sections.sections(tuned, studies):
        for chart in section.charts:
            for marks in chart.marks:
                assert len(marks.x) == len(marks.y)
                assert marks.trials is None or len(marks.trials) == len(marks.x)
                known = {record.number for record in studies[chart.study].records} if chart.study else set()
                assert {one for one in marks.trials or () if one is not None} <= known
            assert interactive.figure(chart)["data"]


def test_tensorboard_has_the_scalars(tmp_path: Path, rng: np.random.Generator):
    tuned = whole(rng, tmp_path, 3)
    events = EventAccumulator(str(tuned.path / "tb" / "recipe")).Reload()
    assert events.Scalars("lr/best")[0].value == pytest.approx(0.1)
    assert "batch/noise_scale" in events.Tags()["scalars"]
    ramp = EventAccumulator(str(tuned.path / "tb" / "lr_ramp")).Reload()
    assert len(ramp.Scalars("lr/loss")) == 40, "what is not finite is left out"


# The command.


def test_the_report_is_written_again_from_its_folder(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
):
    tuned = whole(rng, tmp_path, 8)
    before = tuned.report.read_text()
    tuned.report.unlink()
    assert __main__.main(["hpjax.report", str(tuned.path)]) == 0
    assert tuned.report.read_text() == before
    assert str(tuned.report) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"), [(["nowhere"], "holds no recipe"), ([], "expected the folder"), (["a", "b"], "a b")]
)
def test_a_folder_without_a_recipe_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
):
    monkeypatch.chdir(tmp_path)
    assert __main__.main(["hpjax.report", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_winner_is_asked_about_the_split_that_its_study_read(tmp_path: Path, rng: np.random.Generator):
    config = resolve.resolve(CONFIG)
    dataset = build.load(config)
    trial = build.trial(config, dataset)
    start, size = dataset.splits["test"]
    x = dataset.x[start : start + size] * np.float32(dataset.scale) + np.float32(dataset.shift)
    variables = trial.model.init(jax.random.key(0), x[:1])
    records = trials(rng, 3, 1, diverged=0.0, names=("learning_rate",))
    # It is not done, so that its best config is that of its trials.
    for split, facts in (("val", {}), ("test", {"test": {"test/loss": 1.0}})):
        write_study(tmp_path / split, records, **{"kept": [1], "status": "running", **facts})
        kept.write(tmp_path / split / "params", {1: {"params": variables["params"], "collections": {}}})
        found = predictions.predict(load_study(tmp_path / split))
        assert isinstance(found, Predictions)
        assert (found.split, found.trial, len(found.labels)) == (split, 1, dataset.splits[split][1])
        assert set(found.labels[found.worst] == found.taken[found.worst]) == {False}
    np.testing.assert_array_equal(found.taken, np.asarray(trial.model.apply(variables, x)).argmax(1))
    (tmp_path / "val" / "params").rename(tmp_path / "gone")
    assert "no predictions" in str(predictions.predict(load_study(tmp_path / "val")))


def test_an_axis_of_one_minus_the_value_says_so_and_rises_to_the_right():
    place = places("momentum", [0.5, 0.9, 0.99], "reflected")
    assert axis_name("momentum", place) == "1 - momentum"
    assert axis_name("momentum", places("momentum", [0.5, 0.9], "log")) == "momentum"
    settings = [SettingSummary(i, {"momentum": v}, [i], 0.5, math.nan, "done") for i, v in enumerate([0.9, 0.5, 0.99])]
    row = parallel._row(SimpleNamespace(settings=settings, scales={"momentum": "reflected"}), "momentum")
    assert row.of[1] == pytest.approx(0.0) and row.of[2] == pytest.approx(1.0)
    assert row.of[0] == pytest.approx(math.log(5) / math.log(50))
    assert sorted(row.marks) == [(0.0, "0.5"), (0.5, "0.929"), (1.0, "0.99")]
