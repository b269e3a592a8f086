"""`python -m hpjax.ops`: what the operators run on, their errors and rates."""

import os
import re
import subprocess
import sys

import pytest

from hpjax.ops import __main__ as program
from hpjax.ops import check, native, native_dense

ROW = r"^{} +{} +{} +{}   \S"
FOUND = r"[\d.]+ G[FB]/s  \de-\d\d"


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    monkeypatch.setattr(check, "SECONDS", 0.0)


def test_it_says_what_runs_and_checks_it(capsys):
    assert program.main(["hpjax.ops"]) == 0
    lines = capsys.readouterr().out.splitlines()
    kind = native.instruction_set()
    assert lines[0] == native.described("off" if kind is None else "on")
    assert lines[-1] == "sound: every error is below 1e-05, of bf16 1e-02"
    for operator in ("conv", "conv bf16", "dense", "dense bf16", "perceptron", "attention", "norm", "batch norm", "update"):
        on, found = (r"XLA", "-") if kind is None else (rf"native \({kind}\)", FOUND)
        assert sum(bool(re.match(ROW.format(operator, on, found, FOUND), line)) for line in lines) == 1, lines


def test_without_the_kernels(capsys, monkeypatch):
    assert program.main(["hpjax.ops", "--native=off"]) == 0
    assert len(re.findall(r"(?m)^[\w ]+ XLA +- ", capsys.readouterr().out)) == 9
    monkeypatch.setattr(native, "missing", lambda: "not built (no compiler)")
    assert program.main(["hpjax.ops"]) == 0
    assert capsys.readouterr().out.startswith("kernels: XLA alone; the native ones are not built (no compiler)\noperator")
    assert program.main(["hpjax.ops", "--native=on"]) == 2
    assert (
        capsys.readouterr().err
        == "hpjax.ops: native is on, but the kernels are not built (no compiler); expected auto or off\n"
    )


@pytest.mark.skipif(native.missing() is not None, reason="there are no native kernels")
def test_a_wrong_operator_is_found(capsys, monkeypatch):
    matmul = native_dense.matmul
    monkeypatch.setattr(native_dense, "matmul", lambda *args, **kw: (matmul(*args, **kw)[0] * 1.001, matmul(*args, **kw)[1]))
    assert program.main(["hpjax.ops"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "wrong: dense"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nativ=on"], "flag 'nativ' is unknown; did you mean 'native'?"),
        (["--native=onn"], "native is 'onn'; expected auto, on or off; did you mean 'on'?"),
        (["--native"], "flag 'native' has no value; expected --native=VALUE"),
        (["conv"], "argument 'conv' is no flag; expected --name=value"),
    ],
)
def test_bad_input_is_one_line(capsys, words, message):
    assert program.main(["hpjax.ops", *words]) == 2
    assert capsys.readouterr().err == f"hpjax.ops: {message}\n"


def test_a_platform_that_jax_does_not_find_is_one_line():
    asked = {**os.environ, "JAX_PLATFORMS": "none_such"}
    ended = subprocess.run([sys.executable, "-m", "hpjax.ops"], env=asked, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stdout == ""
    assert re.fullmatch(r"hpjax\.ops: JAX finds no device \(JAX_PLATFORMS is 'none_such'\): .*\n", ended.stderr)
