"""`python -m hpjax.launch`: which processes it starts, and what it makes of how they end."""

import signal
import sys
import threading
import time

import pytest

from hpjax import launch
from hpjax.errors import ConfigError
from hpjax.processes import children
from hpjax.processes.children import Children

SCHEDULERS = ("SLURM_", "OMPI_", "PMIX_", "TPU_", "MEGASCALE_")


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith(SCHEDULERS):
            monkeypatch.delenv(name)


def test_it_starts_as_many_as_are_asked_for():
    flags = launch.children(["launch", "--num_processes=3", "--seed=1"])
    assert [of[-1] for of in flags] == ["--process_id=0", "--process_id=1", "--process_id=2"]
    address = {of[0] for of in flags}
    assert len(address) == 1 and address.pop().startswith("--coordinator_address=127.0.0.1:")
    (alone,) = launch.children(["launch", "--num_processes=1"])
    assert alone == []
    given = launch.children(["launch", "--num_processes=2", "--coordinator_address=localhost:4711"])
    assert [of[0] for of in given] == ["--coordinator_address=localhost:4711"] * 2


def test_it_is_the_parent_of_one_where_others_are_elsewhere(monkeypatch):
    assert launch.children(["launch", "--num_processes=2", "--process_id=1", "--coordinator_address=a:1"]) == [[]]
    for name, value in {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert launch.children(["launch"]) == [[]]


def test_it_must_know_how_many():
    with pytest.raises(ConfigError, match="num_processes is not set, and no scheduler has started several"):
        launch.children(["launch", "--seed=1"])


def test_a_studys_flags_start_a_study(tmp_path):
    (tmp_path / "study.flags").write_text("--learning_rate=0.1\n--vary=learning_rate=log(1e-3,1)\n")
    assert launch.module(["launch", "--num_processes=2", "--run_dir=runs/x"]) == "hpjax.train"
    assert launch.module(["launch", "--num_processes=2", f"--flagfile={tmp_path / 'study.flags'}"]) == "hpjax.sweep"
    assert launch.module(["launch", "--study=runs/x", "--num_processes=2"]) == "hpjax.sweep"
    assert len(launch.children(["launch", "--num_processes=2", "--vary=seed=range(2)"])) == 2


def test_bad_flags_are_its_own_line(capsys):
    assert launch.main(["launch", "--num_procesess=2"]) == 2
    assert capsys.readouterr().err == "hpjax.launch: flag 'num_procesess' is unknown; did you mean 'num_processes'?\n"


def ended(capfd, *codes: str) -> tuple[int, str]:
    started = Children([[sys.executable, "-c", "import os, signal, sys, time\n" + code] for code in codes])
    code = started.wait()
    return code, capfd.readouterr().err


LINE = "sys.stderr.write('hpjax.train: process 1 of 2: no data\\n'); sys.exit(2)"
# As JAX 0.10.2 says it when the process of its coordination service is gone.
ABORT = """
sys.stderr.write('''W1125 21:39:26.430409   25207 coordination_service_agent.cc:289] Polled an error
F1125 21:39:26.430410   25207 client.h:80] Terminating process because the JAX distributed service detected fatal errors.
Additional GRPC error information from remote target coordination_service while calling PollForError:
:UNKNOWN:Error received from peer  {grpc_status:14, grpc_message:"Socket closed"}
*** Check failure stack trace: ***
    @     0x7f7ea5840634  absl::lts_20260107::log_internal::LogMessage::SendToLog()
{extra}''')
sys.stderr.flush()
os.abort()
"""


def test_one_line_however_many_say_it(capfd):
    other = "time.sleep(0.2); sys.stderr.write('hpjax: no data\\n'); sys.exit(2)"
    assert ended(capfd, LINE, other) == (2, "hpjax.train: process 1 of 2: no data\n")


def test_an_abort_becomes_a_line_and_a_code(capfd):
    code, said = ended(capfd, ABORT.replace("{extra}", ""))
    assert code == 3
    assert said.startswith("hpjax.launch: process 0 of 1 was ended by JAX's runtime: F1125 ") and said.count("\n") == 1
    # Where a process has said why, its abort says nothing more.
    code, said = ended(capfd, ABORT.replace("{extra}", "hpjax: process 1 of 2 (there) was lost\n"))
    assert (code, said) == (3, "hpjax: process 1 of 2 (there) was lost\n")


def test_a_killed_child_is_named(capfd):
    code, said = ended(capfd, "os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(3)")
    assert (code, said) == (3, "hpjax.launch: process 0 of 2 was ended by SIGKILL\n")


@pytest.mark.parametrize(("codes", "expected"), [((0, 0), 0), ((1, 1), 1), ((143, 143), 143), ((2, 3), 2), ((3, 143), 3)])
def test_codes(capfd, codes, expected):
    assert ended(capfd, *(f"sys.exit({code})" for code in codes))[0] == expected


def test_a_child_that_does_not_end_is_killed(capfd, monkeypatch):
    monkeypatch.setattr(children, "SECONDS_TO_END", 0.5)
    code, said = ended(capfd, "time.sleep(100)", "sys.exit(3)")
    assert code == 3
    assert "process 0 did not end within 0 s of another's end: killed" in said


def test_a_signal_is_passed_on_to_all():
    waits = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\nprint(flush=True)\ntime.sleep(60)"
    started = Children([[sys.executable, "-c", "import signal, sys, time\n" + waits]] * 2)
    time.sleep(1.0)
    threading.Timer(0.1, started.send, (signal.SIGTERM,)).start()
    begun = time.monotonic()
    assert started.wait() == 143
    assert time.monotonic() - begun < 20
