"""The notebook, executed as it stands; and a study where JAX was started before hpjax."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpjax.devices import cores

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "experiments" / "lr_sweep.ipynb"

EXECUTE = """
import ast, json, pathlib, sys
there = {"__name__": "__main__"}
for cell in json.loads(pathlib.Path(sys.argv[1]).read_text())["cells"]:
    if cell["cell_type"] != "code":
        continue
    tree = ast.parse("".join(cell["source"]))
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, cell["id"], "exec"), there)
    if last is not None:
        value = eval(compile(last, cell["id"], "eval"), there)
        for kind in ("_repr_html_", "_repr_png_"):
            # None: matplotlib's figures have HTML in some backends alone.
            shown = getattr(value, kind, lambda: None)()
            if shown is not None:
                print("SHOWN", cell["id"], kind, shown[1:4].decode() if kind == "_repr_png_" else shown)
        print("VALUE", cell["id"], repr(value))
"""
"""What a notebook does: runs the cells in one namespace, and shows what the last line of each comes to."""

EARLY = """
import jax
assert len(jax.devices()) == 1
import hpjax
config = hpjax.Config(hidden_sizes=(8,), train_steps="8", eval_every="4", log_every="4", tensorboard=False)
study = hpjax.run_sweep(config, {"learning_rate": "log(1e-3,1)"}, trials=4, study="study")
print(len(study.records), {record.status for record in study.records})
"""


def execute(code: str, folder: Path, *words: str) -> list[str]:
    """Runs code in a fresh process in a folder, warnings as errors; returns the lines that it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "MPL"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *words],
        cwd=folder,
        check=False,
        env={**inherited, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    lines = execute(EXECUTE, tmp_path, str(NOTEBOOK))
    shown = [line.split(maxsplit=3)[1:] for line in lines if line.startswith("SHOWN")]
    assert [(cell, kind) for cell, kind, _ in shown] == [
        ("sweep", "_repr_html_"),
        ("plot-rate", "_repr_png_"),
        ("plot-curves", "_repr_png_"),
        ("extend", "_repr_png_"),
    ]
    assert [content for _, _, content in shown[1:]] == ["PNG"] * 3
    assert "32 trials (" in shown[0][2]
    assert any(line.startswith("best of 16 settings") for line in lines)
    (winner,) = [line for line in lines if line.startswith("VALUE winner")]
    objective, same = winner.removeprefix("VALUE winner ").strip("()").split(", ")
    assert same == "True"
    assert float(objective) > 0.9


def test_the_notebook_is_clean():
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names)


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="with one core nothing is lost")
def test_where_jax_was_started_before_a_line_says_what_is_lost(tmp_path):
    lines = execute(EARLY, tmp_path)
    (lost,) = [line for line in lines if "JAX was started before hpjax" in line]
    assert f"1 CPU device(s) for {cores()} cores" in lost
    assert "hpjax.configure_devices() before the first JAX operation" in lost
    assert any("on 1 device(s)" in line for line in lines)
    assert lines[-1] == "4 {'done'}"
