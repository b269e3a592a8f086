"""Looking inside while a run trains and afterwards: names in the logs, the command line, bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

import hpjax
import whole_runs as runs
from hpjax.errors import ConfigError, RunFolderError
from hpjax.inspection import INSPECTIONS, filled, of_run
from hpjax.inspection.__main__ import main

SMALL = {"inspect_examples": 64, "sharpness_iterations": 8, "sharpness_values": 2}


@pytest.fixture(scope="module")
def looked_into(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "inside"
    hpjax.run(runs.config(folder, inspect=tuple(INSPECTIONS), inspect_every="20", micro_batch_size=32, **SMALL))
    return folder


def test_a_run_logs_what_is_inside_and_keeps_its_bits(looked_into: Path, tmp_path: Path) -> None:
    hpjax.run(runs.config(tmp_path / "plain", micro_batch_size=32))
    points = runs.lines(looked_into)
    inside = [point for point in points if "noise_scale" in point]
    assert [point["step"] for point in inside] == [20, 40]
    for name in ("gradient_norm/Dense_0/kernel", "activation_zeros/Dense_0", "sharpness/1", "sharpness/2"):
        assert all(point[name] >= 0 for point in inside), name
    assert [point for point in points if "noise_scale" not in point] == runs.lines(tmp_path / "plain")
    assert runs.arrays(looked_into) == runs.arrays(tmp_path / "plain")


def test_tensorboard_has_its_scalars_and_histograms(looked_into: Path) -> None:
    logged = {(name, step): value for name, step, value in runs.scalars(looked_into)}
    for point in runs.lines(looked_into):
        if "noise_scale" in point:
            for name in point.keys() - {"step"}:
                value = logged[name, point["step"]]
                expected = np.nan if point[name] is None else np.float32(point[name])
                assert value == expected or not np.isfinite(value), name
    (path,) = (looked_into / "tb").iterdir()
    events = list(LegacyEventFileLoader(str(path)).Load())
    found = [(v.tag, event.step, v.histo) for event in events for v in event.summary.value if v.HasField("histo")]
    kernels = [(step, histo.num) for tag, step, histo in found if tag == "gradient/Dense_0/kernel"]
    assert [step for step, _ in kernels] == [20, 40]
    assert all(num == kernels[0][1] > 0 for _, num in kernels)
    assert all(sum(histo.bucket) == histo.num for _, _, histo in found)


def test_of_run_finds_what_the_run_logged(looked_into: Path) -> None:
    found = of_run(looked_into, ["norms", "sharpness"], step=40, **SMALL)
    (last,) = (point for point in runs.lines(looked_into) if "noise_scale" in point and point["step"] == 40)
    assert found.step == 40
    assert "noise_scale" not in found.values and not found.histograms
    for name, value in found.values.items():
        # The run looked in with the same program but for the rest of what it was asked.
        assert value == pytest.approx(last[name], rel=1e-3, abs=1e-5), name


def test_the_command_prints_and_draws(looked_into: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = [f"--{name}={value}" for name, value in SMALL.items()]
    picture = tmp_path / "inside.png"
    words = [f"--run_dir={looked_into}", f"--inspect={','.join(INSPECTIONS)}", f"--plot={picture}", *small]
    before = runs.files(looked_into)
    assert main(["inspection", *words]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for expected in ("Dense_0/kernel", "noise_scale", "sharpness/2", "zeros", "deviation"):
        assert expected in shown.out
    assert all(len(line) <= 100 for line in shown.out.splitlines())
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert runs.files(looked_into) == before


BAD: dict[str, tuple[list[str], str]] = {
    "unknown name": (["--inspect=norm"], "did you mean 'norms'? known: norms, histograms, noise_scale, sharpness"),
    "none": (["--inspect=none"], "expected what to look at"),
    "unused": (["--inspect=norms", "--sharpness_values=2"], "sharpness_values is not used by inspect 'norms'"),
    "too many": (["--inspect=sharpness", "--sharpness_values=40"], "at most sharpness_iterations, 32"),
    "no number": (["--inspect=sharpness", "--sharpness_values=x"], "sharpness_values is 'x'; expected a whole number"),
    "no step": (["--inspect=norms", "--step=7"], "step is 7; checkpoints are kept of steps"),
    "no flag": (["--inspct=norms"], "did you mean 'inspect'?"),
    "no value": (["--inspect"], "flag 'inspect' has no value"),
    "a word": (["norms"], "argument 'norms' is no flag"),
    "missing": ([], "flag 'inspect' is not given"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(looked_into: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = BAD[case]
    assert main(["inspection", f"--run_dir={looked_into}", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert expected in shown.err, shown.err


def test_a_folder_without_a_run_or_a_picture_that_cannot_be_written(looked_into: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        of_run(tmp_path, ["norms"])
    with pytest.raises(ConfigError, match="setting 'iterations' is not for looking inside"):
        of_run(looked_into, ["norms"], iterations=3)
    from hpjax.inspection import table
    from hpjax.inspection.finished import Inspected

    with pytest.raises(ConfigError, match="cannot be written"):
        table.draw(Inspected(1, {"sharpness/1": 2.0, "sharpness_error/1": 0.1}, {}), str(tmp_path / "none" / "x.png"))
    with pytest.raises(ConfigError, match="nothing to draw"):
        table.draw(Inspected(1, {"noise_scale": 2.0}, {}), str(tmp_path / "x.png"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"inspect": ("norms",)}, {"inspect_every": "1epochs"}),
        ({"inspect": ("noise_scale",), "inspect_every": "5"}, {"inspect_every": "5", "inspect_examples": 1024}),
    ],
)
def test_settings_are_filled_in_where_they_are_used(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert filled(hpjax.Config(**given)) == expected


def test_settings_that_nothing_uses_are_refused() -> None:
    with pytest.raises(ConfigError, match="inspect_every is not used by inspect 'none'"):
        filled(hpjax.Config(inspect_every="5"))
