"""What is shown while a study runs: lines elsewhere, a table on a terminal, and both seldom."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpjax.study.screen import StudyView

FACTS: dict[str, Any] = {
    "total": 1200,
    "counts": {"done": 90, "stopped": 8, "diverged": 2, "running": 8, "paused": 3},
    "steps": 1000,
    "occupancy": 0.9712,
    "best": (12, 0.98765),
    "values": {"learning_rate": 0.012345, "optimizer": "adamw"},
    "metric": "val/accuracy",
}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with StudyView(True, clock) as view:
        view.update(FACTS)
        for second in range(1, 21):
            clock.now = 100.0 + second
            counts = {**FACTS["counts"], "done": 90 + second}
            view.update({"counts": counts, "steps": 1000 + 500 * second})
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == (
        "100/1,200 trials ended (90 done, 8 stopped, 2 diverged, 8 running, 3 paused); lanes busy 97.1%; "
        "best: val/accuracy 0.9877 (setting 12: learning_rate=0.01235, optimizer=adamw)"
    )
    # 10 trials in 10 s, 1,090 are left: 1,090 s, which are 18 minutes.
    assert second.startswith("110/1,200 trials ended (100 done,")
    assert "; 500 trial-steps/s; left 18 min; " in second
    assert third.startswith("120/1,200 trials ended")


def test_the_rate_is_of_the_last_seconds_and_of_this_sitting_only(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    view = StudyView(True, clock)
    # A resumed study begins with a million steps.
    for i, steps in enumerate([1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_060_000, 1_120_000]):
        clock.now = 100.0 + 10 * i
        view.update(steps=steps, counts={"done": 50}, total=100)
    last = capsys.readouterr().out.splitlines()[-1]
    # Of the last 30 s the first third stood still: 120,000 steps in 30 s. No trial ended: nobody knows how long it takes.
    assert last == "50/100 trials ended (50 done); 4,000 trial-steps/s"


def test_nothing_is_known_yet(capsys: pytest.CaptureFixture[str]) -> None:
    view = StudyView(True)
    view.update()
    view.update(best=None, occupancy=float("nan"))
    assert capsys.readouterr().out == "0 trials ended\n"


def test_a_view_that_is_off_shows_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    with StudyView(False) as view:
        view.update(FACTS)
        view.say("said")
        view.warn("warned [bold]")
    assert capsys.readouterr().out == "warned [bold]\n"


def test_a_screen_that_is_gone_does_not_end_a_study(monkeypatch: Any) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("gone")

    monkeypatch.setattr(sys, "stdout", Gone())
    with StudyView(True) as view:
        view.update(FACTS)
        view.warn("nobody hears")


PROGRAM = """
from hpjax.study.screen import StudyView
clock = iter(range(100, 10_000, 1))
with StudyView(True, lambda: float(next(clock))) as view:
    for done in range(3):
        view.update(total=3, counts={"done": done, "running": 1}, steps=10 * done, best=(0, 0.5), metric="val/[accuracy]")
    view.say("above [the] table")
"""


def test_a_terminal_has_a_table(tmp_path: Path) -> None:
    main, other = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=other, env=environment) as process:
        os.close(other)
        shown = b""
        try:
            while chunk := os.read(main, 4096):
                shown += chunk
        except OSError:
            # The terminal's other end is closed when the program has ended.
            pass
        os.close(main)
    assert process.returncode == 0
    text = shown.decode()
    for words in (
        "0/3 trials",
        "2/3 trials",
        "2 done  1 running",
        "best: val/[accuracy] 0.5 (setting 0)",
        "above [the] table",
    ):
        assert words in text, words
    assert "10 trial-steps/s" in text
