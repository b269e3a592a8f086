"""tensorboardX is used without what its package imports, and is whole for who imports it afterwards."""

import subprocess
import sys

BOTH = """
import sys
import hpjax
config = hpjax.Config(hidden_sizes=(4,), train_steps="2", eval_every="2", log_every="1", run_dir=sys.argv[1], progress=False)
hpjax.run(config)
print("torch" in sys.modules, "tensorboardX" in sys.modules)
import tensorboardX
with tensorboardX.SummaryWriter(sys.argv[1] + "/other") as writer:
    writer.add_hparams({"rate": 0.1}, {"loss": 1.0})
    print(tensorboardX.summary.scalar("loss", 1.0).value[0].tag)
hpjax.run(config.replace(run_dir=sys.argv[1] + "/again"))
"""


def printed(code: str, *words: str) -> list[str]:
    command = [sys.executable, "-W", "error", "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_run_imports_no_torch_and_leaves_tensorboardx_whole(tmp_path):
    assert printed(BOTH, str(tmp_path / "run")) == ["False", "False", "loss"]
    for run in ("run", "run/again"):
        assert len(list((tmp_path / run / "tb").glob("events*"))) == 1


def test_one_that_was_imported_before_is_used():
    found = printed(
        "import tensorboardX\nfrom hpjax import tensorboard as t\nprint(t.RecordWriter is tensorboardX.RecordWriter)"
    )
    assert found == ["True"]
