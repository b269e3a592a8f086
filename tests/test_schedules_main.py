"""`python -m hpjax.schedules`: charts, tables, pictures, the list, and bad input."""

import re
import subprocess
import sys

import numpy as np
import pytest

from hpjax.config import Config
from hpjax.schedules import SCHEDULES
from hpjax.schedules.__main__ import main
from hpjax.schedules.curves import curves, table
from hpjax.schedules.draw import in_terminal

PNG = b"\x89PNG\r\n"


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["hpjax.schedules", *words])
    out, err = capsys.readouterr()
    return code, out, err


def config(**settings: object) -> Config:
    return Config(**{"train_steps": "1000", "learning_rate": 0.5, **settings})


def test_the_table_has_the_values_at_its_steps():
    found = curves(config(schedule="cosine", warmup="10%"))
    rows = {what: (step, values[0]) for what, step, values in table(found)}
    assert {what: step for what, (step, _) in rows.items()} == {
        "start": 0,
        "warmed up": 99,
        "25 %": 249,
        "50 %": 499,
        "75 %": 749,
        "end": 999,
        "highest": 99,
        "lowest": 999,
    }
    assert rows["start"][1] == pytest.approx(0.005, rel=1e-6)
    assert rows["warmed up"][1] == pytest.approx(0.5, rel=1e-6)
    assert rows["50 %"][1] == pytest.approx(0.25 * (1 + np.cos(np.pi * 399 / 900)), rel=1e-6)


@pytest.mark.parametrize("name", SCHEDULES.names())
@pytest.mark.parametrize("steps", [1, 7, 1000, 10**6])
def test_every_chart_fits_80_columns(name, steps, rng):
    from needed import needed

    text = in_terminal(curves(config(schedule=name, train_steps=str(steps), batch_size=1, **needed(name))))
    assert all(len(line) <= 80 and line.isascii() for line in text.splitlines())
    chart = text.split("\n\n")[0].splitlines()
    assert chart[0] == "learning_rate"
    assert chart[-1].split()[0] == "step" and chart[-1].split()[-1] == str(steps - 1)
    assert sum("*" in line for line in chart) >= 1
    # Every column has a mark: the curve has no gaps.
    marks = np.array([[c == "*" for c in line[12:].ljust(68)] for line in chart[1:18]])
    assert marks.any(0).all()


def test_a_falling_line_is_drawn_as_one(capsys):
    code, out, _ = run(capsys, "--schedule=linear", "--train_steps=10001", "--learning_rate=2", "--batch_size=1")
    assert code == 0
    rows = out.splitlines()[1:18]
    assert rows[0].startswith("         2 |*") and rows[8].startswith("         1 |") and rows[16].startswith("         0 |")
    edges = [row.rfind("*") for row in rows]
    assert edges == sorted(edges)


def test_cycled_momentum_and_other_quantities_are_drawn(capsys):
    words = [
        "--schedule=onecycle",
        "--momentum_low=0.85",
        "--weight_decay_schedule=linear",
        "--weight_decay=0",
        "--train_steps=100",
    ]
    code, out, _ = run(capsys, *words)
    assert code == 0
    titles = [block.splitlines()[0] for block in out.split("\n\n")[:3]]
    assert titles == ["learning_rate", "weight_decay", "momentum"]
    assert "the weight_decay is 0.0: its factor is shown" in out
    highest = next(line for line in out.splitlines() if line.startswith("highest"))
    assert highest.split() == ["highest", "29", "0.1", "0.71", "0.85"]


def test_epochs_are_the_data_sets_or_given(capsys):
    def last(*words: str) -> str:
        code, out, _ = run(capsys, "--schedule=linear", "--train_steps=2epochs", "--batch_size=10", *words)
        assert code == 0
        return next(line for line in out.splitlines() if line.startswith("end")).split()[1]

    assert last("--epoch_examples=95") == "18"
    assert last() == str(-(-2 * 1079 // 10) - 1)


def test_pictures(capsys, tmp_path):
    code, out, _ = run(capsys, "--schedule=cosine", "--train_steps=100", f"--plot={tmp_path / 'a.png'}")
    assert code == 0 and out.endswith(f"{tmp_path / 'a.png'} written\n")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    code, _, _ = run(capsys, f"--gallery={tmp_path / 'b.png'}")
    assert code == 0 and (tmp_path / "b.png").read_bytes().startswith(PNG)


def test_list_has_every_schedule_and_setting(capsys):
    code, out, _ = run(capsys, "--list")
    assert code == 0
    for name in SCHEDULES.names():
        assert re.search(rf"^{name} ", out, re.MULTILINE)
        for setting in SCHEDULES.settings(name):
            assert f" {setting}=" in out


def test_help(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and "--plot=FILE" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--schedul=cosine"], "flag 'schedul' is unknown; did you mean 'schedule'?"),
        (["--schedule=cosine(end_factor=x)"], "end_factor is 'x'; expected a number"),
        (["--schedule=step"], "step_size is not set; schedule 'step' needs it: give --step_size=VALUE"),
        (["--plot"], "flag 'plot' has no value; expected --plot=VALUE"),
        (["--train_steps=5", "--plot=x.jpg"], "plot is 'x.jpg'; expected a file that ends in .png, .pdf or .svg"),
        (["--train_steps=5", "--plot=no/x.png"], "plot 'no/x.png' cannot be written: no such file or directory"),
        (["--epoch_examples=0"], "epoch_examples is '0'; expected a whole number in [1, 2^31)"),
        (["cosine"], "argument 'cosine' is no flag; expected --name=value"),
    ],
)
def test_bad_input(capsys, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, *words)[::2] == (2, f"hpjax.schedules: {message}\n")
    assert not list(tmp_path.iterdir())


def test_as_a_module():
    command = [sys.executable, "-m", "hpjax.schedules", "--schedule=rex", "--train_steps=10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("learning_rate\n")
