"""tensorboardX is used without what its package imports, and is whole for whoever imports it, from any thread."""

import subprocess
import sys

BOTH = """
import sys
import hpjax
config = hpjax.Config(hidden_sizes=(4,), train_steps="2", eval_every="2", log_every="1", run_dir=sys.argv[1], progress=False)
hpjax.run(config)
print("torch" in sys.modules)
import tensorboardX
with tensorboardX.SummaryWriter(sys.argv[1] + "/other") as writer:
    writer.add_hparams({"rate": 0.1}, {"loss": 1.0})
    print(tensorboardX.summary.scalar("loss", 1.0).value[0].tag)
print(tensorboardX.__version__ > "2", hasattr(tensorboardX, "nonsense"), hasattr(tensorboardX, "__wrapped__"))
hpjax.run(config.replace(run_dir=sys.argv[1] + "/again"))
"""

THREADS = """
import sys, threading
sys.setswitchinterval(1e-6)
import hpjax
found, ready = [], threading.Barrier(5)

def user():
    ready.wait()
    from tensorboardX import SummaryWriter
    import tensorboardX
    found.append(tensorboardX.SummaryWriter is SummaryWriter)

def ours():
    ready.wait()
    from hpjax import tensorboard
    found.append(len(tensorboard.hparams({"rate": 0.1}, {"loss": 1.0})) == 3)

threads = [threading.Thread(target=target) for target in (user, ours, user, ours, user)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(found)
"""


def printed(code: str, *words: str) -> list[str]:
    command = [sys.executable, "-W", "error", "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_a_run_imports_no_torch_and_leaves_tensorboardx_whole(tmp_path):
    assert printed(BOTH, str(tmp_path / "run")) == ["False", "loss", "True", "False", "False"]
    for run in ("run", "run/again"):
        assert len(list((tmp_path / run / "tb").glob("events*"))) == 1


def test_one_that_was_imported_before_is_used():
    code = "import tensorboardX\nfrom hpjax import tensorboard as t\nprint(t.RecordWriter is tensorboardX.RecordWriter)"
    assert printed(code) == ["True"]


def test_threads_that_import_it_at_once_all_get_it():
    assert printed(THREADS) == ["[True,", "True,", "True,", "True,", "True]"]
