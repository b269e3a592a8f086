"""Bad input ends with one line and exit code 2, before training, and leaves the disk as it was; a full disk with one too."""

import errno
import fcntl
import gzip
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import types
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import hpjax
from hpjax import preview, resolve, train
from hpjax.checkpoints import damage
from hpjax.ops import ACTIVATIONS, native
from hpjax.registry import Scalar

ROOT = Path(__file__).parent.parent

TINY = (
    "--hidden_sizes=16",
    "--train_steps=20",
    "--log_every=5",
    "--eval_every=10",
    "--devices=1",
    "--noprogress",
)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Returns every file and folder under a folder, and what the files hold."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
    """A function that gives hpjax.train bad input and returns the line it answers with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPJAX_DATA_DIR", raising=False)

    def run(*words: object) -> str:
        before = contents(tmp_path)
        code = train.main(["hpjax.train", *TINY, *map(str, words)])
        out, err = capfd.readouterr()
        assert (code, out) == (2, "")
        assert contents(tmp_path) == before
        assert err.startswith("hpjax.train: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return err.removeprefix("hpjax.train: ").removesuffix("\n")

    return run


POSITIVE = "expected a finite number > 0 (float32: 1.2e-38 to 3.4e38)"
OBJECTIVES = "expected one of val/loss, val/accuracy, train/loss, train/accuracy"


def known(part: str) -> str:
    return f"known: {', '.join(resolve.PARTS[part].names())}"


FRACTION = "expected a number in [0, 1), as float32"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--learning_rat=0.1", "flag 'learning_rat' is unknown; did you mean 'learning_rate'?"),
        ("--optimizer=momentun", f"optimizer 'momentun' is unknown; did you mean 'momentum'? {known('optimizer')}"),
        (
            "--model=cnn --channels=1,1,1,1",
            "channels has 4 sizes; pooling leaves no picture before the last",
        ),
        ("--schedule=cosin", f"schedule 'cosin' is unknown; did you mean 'cosine'? {known('schedule')}"),
        ("--model=mpl", f"model 'mpl' is unknown; did you mean 'mlp'? {known('model')}"),
        ("--dataset=digit", f"dataset 'digit' is unknown; did you mean 'digits'? {known('dataset')}"),
        ("--parallel=shardmap", "parallel is 'shardmap'; expected one of shard_map, pmap; did you mean 'shard_map'?"),
        (
            "--activation=rellu",
            f"activation 'rellu' is unknown; did you mean 'relu'? known: {', '.join(ACTIVATIONS)}",
        ),
        (
            "--metrics=accuracy --objective=val/acuracy:max",
            f"objective is 'val/acuracy:max'; did you mean 'val/accuracy'? {OBJECTIVES}",
        ),
        ("--objective=val/loss:mni", "objective is 'val/loss:mni'; expected val/loss:max or val/loss:min"),
        ("--objective_value=bst", "objective_value is 'bst'; expected one of best, last, smoothed; did you mean 'best'?"),
        ("--learning_rate=-0.1", f"learning_rate is '-0.1'; {POSITIVE}"),
        ("--learning_rate=nan", f"learning_rate is 'nan'; {POSITIVE}"),
        ("--learning_rate=0", f"learning_rate is '0'; {POSITIVE}"),
        ("--learning_rate=fast", "learning_rate is 'fast'; expected a number"),
        ("--dropout_rate=1", f"dropout_rate is '1'; {FRACTION}"),
        ("--train_steps=0", "train_steps is 0; expected at least one step"),
        ("--train_steps=3weeks", "train_steps: '3weeks': unit 'weeks' is unknown; known: steps, epochs, examples, %"),
        ("--warmup=21", "warmup is 21, 21 steps; expected at most the schedule's 20 steps"),
        ("--warmup=200%", "warmup is 200%, 40 steps; expected at most the schedule's 20 steps"),
        ("--batch_size=1080", "batch_size is 1080; expected at most the training split's 1079 examples"),
        ("--micro_batch_size=48", "micro_batch_size is 48; expected a divisor of batch_size, 128"),
        ("--devices=3", "devices is 3; expected a divisor of micro_batch_size, 128"),
        ("--devices=8 --eval_batch_size=12", "devices is 8; expected a divisor of eval_batch_size, 12"),
        ("--devices=none", "devices is 'none'; expected auto or a whole number >= 1"),
        (
            "--momentum=0.9 --optimizer=adamw",
            "momentum is not used by optimizer 'adamw'; settings it uses: "
            + ", ".join(resolve.PARTS["optimizer"].settings("adamw"))
            + "; it is for: rmsprop, momentum, nesterov, lars, muon",
        ),
        ("--schedule=step", "step_size is not set; schedule 'step' needs it: give --step_size=VALUE"),
        (
            "--validation_fraction=0.5 --test_fraction=0.5",
            "validation_fraction + test_fraction is 1.0; expected less than 1",
        ),
        (
            "--validation_fraction=0",
            "objective is 'val/accuracy:max'; the data set has no val split to measure it on",
        ),
        ("learning_rate=0.1", "argument 'learning_rate=0.1' is no flag; expected --name=value"),
        (
            "--flagfile=no.flags",
            "flagfile 'no.flags' cannot be read: no such file or directory; expected a file of lines --name=value",
        ),
    ],
)
@pytest.mark.parametrize("where", [[], ["--run_dir=runs/deep/mine"]], ids=["default", "named"])
def test_settings(words, message, where, refused):
    assert refused(*where, *words.split()) == message


def test_devices_that_do_not_exist(refused):
    import jax

    present = jax.local_device_count()
    assert refused(f"--devices={present + 1}") == (
        f"devices is {present + 1}; expected at most the {present} that this machine has"
    )


def test_quotes_in_a_flagfile(refused, tmp_path):
    (tmp_path / "my.flags").write_text('--seed=1\n--optimizer="adamw"\n')
    assert refused("--flagfile=my.flags") == 'my.flags:2: optimizer is "adamw"; expected a value without quotes'


# Data


@pytest.fixture
def mnist_dir(tmp_path):
    """A folder with MNIST's four files, 60 and 20 examples."""
    folder = tmp_path / "data"
    folder.mkdir()
    for stem, count in (("train", 60), ("t10k", 20)):
        write_idx(folder / f"{stem}-images-idx3-ubyte", np.zeros((count, 28, 28), np.uint8))
        write_idx(folder / f"{stem}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return folder


def write_idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


def test_missing_data(refused, tmp_path):
    assert refused("--dataset=mnist").startswith(
        "dataset 'mnist' needs its folder: give --data_dir or the environment variable HPJAX_DATA_DIR; MNIST is published as"
    )
    for folder, reason in ((tmp_path / "no", "is no folder"), (tmp_path, "no file train-images-idx3-ubyte[.gz] in")):
        line = refused("--dataset=mnist", f"--data_dir={folder}")
        assert line.startswith("dataset 'mnist': ")
        assert str(folder) in line
        assert reason in line
        assert "MNIST is published as train-images-idx3-ubyte.gz" in line


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_truncated_data(name, packed, refused, mnist_dir):
    path = mnist_dir / name
    content = gzip.compress(path.read_bytes()) if packed else path.read_bytes()
    path.write_bytes(content[:-7])
    line = refused("--dataset=mnist", f"--data_dir={mnist_dir}", "--batch_size=8")
    assert line.startswith(f"file '{path}' is ")
    assert "truncated" in line
    assert "expected" in line


def test_labels_out_of_range(refused, mnist_dir):
    path = mnist_dir / "t10k-labels-idx1-ubyte"
    write_idx(path, np.array([*range(10), *range(1, 11)], np.uint8))
    line = refused("--dataset=mnist", f"--data_dir={mnist_dir}", "--batch_size=8")
    assert line == f"file '{path}' has label 10 at example 19; expected 0 to 9"


# Run folders


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that is done."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert train.main(["hpjax.train", *TINY, f"--run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def run_folder(finished, tmp_path):
    """A copy of the finished run, one for each test."""
    return shutil.copytree(finished, tmp_path / "run")


def test_a_run_folder_that_is_a_file(refused, tmp_path):
    (tmp_path / "run").write_text("")
    assert refused("--run_dir=run") == "run folder 'run' is a file; expected a folder or a new name"


def test_a_folder_that_is_no_run_folder(refused, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("")
    for words in ([], ["--overwrite"], ["--noresume"]):
        assert refused("--run_dir=run", *words) == "'run' holds 'thesis.tex' and is no run folder; expected a new name"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_a_folder_where_nobody_may_write(refused, tmp_path):
    assert refused("--run_dir=/proc/run") == "cannot write to '/proc/run': no such file or directory"
    (tmp_path / "file").write_text("")
    assert refused("--run_dir=file/run") == "cannot write to 'file/run': not a directory"


@pytest.fixture(params=[0o500, 0o000], ids=["read-only", "closed"])
def closed(request, tmp_path_factory):
    """A folder that its owner may not write to, nor, the second time, look into."""
    folder = tmp_path_factory.mktemp("closed")
    folder.chmod(request.param)
    yield folder
    folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_where_this_person_may_not_write(closed, refused):
    assert refused(f"--run_dir={closed / 'run'}") == f"cannot write to '{closed / 'run'}': permission denied"


def test_a_name_that_is_too_long(refused):
    name = "x" * 300
    assert refused(f"--run_dir={name}") == f"cannot write to '{name}': file name too long"


def test_a_run_with_other_flags(refused, run_folder):
    words = ["--learning_rate=0.2", "--clip_norm=1", "--batch_size=64", "--micro_batch_size=64"]
    assert refused(f"--run_dir={run_folder}", *words) == (
        f"'{run_folder}' holds a run with other flags (learning_rate 0.1 -> 0.2; clip_norm (none) -> 1.0; "
        "batch_size 128 -> 64; micro_batch_size 128 -> 64); expected the same flags, --overwrite or a new name"
    )


def test_noresume_on_a_run(refused, run_folder):
    assert refused(f"--run_dir={run_folder}", "--noresume") == (
        f"'{run_folder}' holds a run and --noresume was given; expected --overwrite or a new name"
    )


def test_a_run_whose_flags_are_damaged(refused, run_folder):
    (run_folder / "flags.txt").write_text("--sed=1\n")
    assert refused(f"--run_dir={run_folder}") == (
        f"'{run_folder}/flags.txt' cannot be read: {run_folder}/flags.txt:1: flag 'sed' is unknown; did you mean 'seed'?; "
        "expected --overwrite"
    )


def test_two_runs_in_one_folder(refused, run_folder):
    with (run_folder / ".lock").open("w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words in ([], ["--overwrite"]):
            assert refused(f"--run_dir={run_folder}", *words) == (
                f"run folder '{run_folder}' is in use by process 4711; expected another folder"
            )


# From Python.


@pytest.mark.parametrize("config", [{"dataset": "digits"}, None, "digits"])
@pytest.mark.parametrize(
    "begin",
    [
        hpjax.run,
        hpjax.run_tune,
        lambda config: hpjax.run_sweep(config, {"learning_rate": "log(1e-3,1)"}),
        lambda config: hpjax.Search(config, {"learning_rate": "log(1e-3,1)"}),
        preview.preview,
    ],
    ids=["run", "run_tune", "run_sweep", "Search", "preview"],
)
def test_what_is_no_config(begin, config):
    came = re.escape(type(config).__name__)
    with pytest.raises(hpjax.HpjaxError, match=rf"^config is of type {came}; expected an hpjax\.Config"):
        begin(config)


def test_a_misspelt_step_of_a_recipe():
    with pytest.raises(hpjax.HpjaxError, match=r"expected some of initial, .*; did you mean 'coarse'\?"):
        hpjax.run_tune(hpjax.Config(), steps="initial,corse")


# The command line itself: what the calls above cannot show is that nothing else reaches the screen.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning_rat=0.1"], "flag 'learning_rat' is unknown; did you mean 'learning_rate'?"),
        (["--optimizer=adan"], f"optimizer 'adan' is unknown; did you mean 'adam'? {known('optimizer')}"),
        (["--batch_size=1080"], "batch_size is 1080; expected at most the training split's 1079 examples"),
        (["--devices=4711"], "devices is 4711; expected at most the "),
        (["--run_dir=file/run"], "cannot write to 'file/run': not a directory"),
    ],
)
def test_command_line(words, message, tmp_path):
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "hpjax.train", *TINY, *words]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"hpjax.train: {message}")
    assert done.stderr.count("\n") == 1
    assert contents(tmp_path) == {"file": b""}


# A full disk


def log(folder: Path) -> list[dict[str, float]]:
    """Returns a run's log points without what depends on the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{n: v for n, v in json.loads(line).items() if not n.startswith("speed/")} for line in lines]


def outcome(folder: Path) -> dict[str, object]:
    facts = json.loads((folder / "metadata.json").read_text())
    return {name: facts[name] for name in ("status", "step", "objective", "best", "test", "chosen_tick", "error")}


@pytest.fixture
def trained(capfd):
    """A function that trains in a folder and returns exit code and what was written to stderr."""

    def run(folder: Path) -> tuple[int, str]:
        capfd.readouterr()
        code = train.main(["hpjax.train", *TINY, f"--run_dir={folder}"])
        return code, capfd.readouterr().err

    return run


def assert_goes_on(trained, folder: Path, finished: Path) -> None:
    """Asserts that the same command, with space on the disk, ends as if nothing had happened."""
    assert trained(folder) == (0, "")
    assert log(folder) == log(finished)
    assert outcome(folder) == outcome(finished)


@pytest.fixture
def full_after(monkeypatch):
    """A function: from now on the disk is full for files of that name, but for so many writes."""

    def patch(name: str, writes: int) -> None:
        real_open, left = io.open, [writes]

        def opened(file, mode="r", *args, **kwargs):
            result = real_open(file, mode, *args, **kwargs)
            if str(file).endswith(name) and mode != "r":
                real_write = result.write

                def write(text):
                    left[0] -= 1
                    if left[0] < 0:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    return real_write(text)

                result.write = write
            return result

        monkeypatch.setattr(io, "open", opened)

    return patch


def test_no_space_for_the_flags(full_after, monkeypatch, trained, tmp_path, finished):
    full_after("flags.txt.new", 0)
    folder = tmp_path / "run"
    assert trained(folder) == (2, f"hpjax.train: cannot write to '{folder}/flags.txt.new': the disk is full\n")
    assert contents(tmp_path) == {}
    monkeypatch.undo()
    assert_goes_on(trained, folder, finished)


@pytest.mark.parametrize(("writes", "checkpoints"), [(0, []), (3, ["10"]), (4, ["10"])])
def test_no_space_for_the_log(writes, checkpoints, full_after, monkeypatch, trained, tmp_path, finished):
    full_after("metrics.jsonl", writes)
    folder = tmp_path / "run"
    assert trained(folder) == (2, f"hpjax.train: cannot write to '{folder}': the disk is full\n")
    assert [path.name for path in (folder / "checkpoints").iterdir()] == checkpoints
    assert [damage(path) for path in (folder / "checkpoints").iterdir()] == [None] * len(checkpoints)
    facts = json.loads((folder / "metadata.json").read_text())
    assert (facts["status"], facts["error"]) == ("failed", f"cannot write to '{folder}': the disk is full")
    monkeypatch.undo()
    assert_goes_on(trained, folder, finished)


@pytest.mark.parametrize("saves", [0, 1])
def test_no_space_for_a_checkpoint(saves, monkeypatch, trained, tmp_path, finished):
    real_save, calls = ocp.Checkpointer.save, []

    def save(self, *args, **kwargs):
        calls.append(real_save(self, *args, **kwargs))
        if len(calls) > saves:
            raise ValueError("UNAVAILABLE: Error writing file: No space left on device [OS error 28: ENOSPC]\n in 'd/0'")

    monkeypatch.setattr(ocp.Checkpointer, "save", save)
    folder = tmp_path / "run"
    assert trained(folder) == (2, "hpjax.train: a checkpoint could not be written: the disk is full\n")
    whole = [path.name for path in (folder / "checkpoints").iterdir() if path.name.isdecimal()]
    assert whole == ["10"][:saves]
    assert [damage(folder / "checkpoints" / name) for name in whole] == [None] * saves
    monkeypatch.undo()
    assert_goes_on(trained, folder, finished)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root and mount to make a small file system")
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("kilobytes", [0, 4, 8, 12, 56, 144])
def test_a_disk_that_is_full(kilobytes, small_disk, trained, finished):
    (small_disk / "other").write_bytes(bytes(2**20 - 1024 * kilobytes))
    folder = small_disk / "run"
    assert_full(trained, folder)
    (small_disk / "other").unlink()
    assert_goes_on(trained, folder, finished)


@pytest.mark.parametrize("files", [2, 4, 6, 8])
def test_a_disk_that_has_as_many_files_as_it_may(files, small_disk, trained, finished):
    subprocess.run(["mount", "-o", f"remount,nr_inodes={files}", str(small_disk)], check=True)
    folder = small_disk / "run"
    assert_full(trained, folder)
    subprocess.run(["mount", "-o", "remount,nr_inodes=1000", str(small_disk)], check=True)
    assert_goes_on(trained, folder, finished)


def assert_full(trained, folder: Path) -> None:
    """Asserts that training ends with the one line, and that every checkpoint is intact."""
    code, err = trained(folder)
    assert code == 2
    assert err.startswith("hpjax.train: ")
    assert err.endswith(": the disk is full\n")
    assert err.count("\n") == 1
    saved = folder / "checkpoints"
    assert [damage(path) for path in saved.glob("*") if path.name.isdecimal()] in ([], [None])


PLUGINS = """
import jax
from flax import linen as nn
class Net(nn.Module):
    outputs: int
    @nn.compact
    def __call__(self, x, training=None):
        return nn.Dense(self.outputs)(x.reshape(x.shape[0], -1))
def few(outputs):
    return Net(5)
class Steep(nn.Module):
    outputs: int
    @nn.compact
    def __call__(self, x, training=None):
        x = x.reshape(x.shape[0], -1)
        layer = nn.Dense(self.outputs)
        y = layer(x)
        return y if self.is_initializing() else y + jax.grad(lambda x: (layer(x) ** 2).sum())(x).sum()
def steep(outputs):
    return Steep(outputs)
def scalar(logits, labels, *, label_smoothing=0.0):
    return (logits ** 2).mean()
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model=plugins_of_a_person:few", "gives (2, 5) for 2 examples; expected (2, 10)"),
        pytest.param(
            "--model=plugins_of_a_person:steep",
            "takes a gradient, which the native kernels cannot differentiate again; expected native=off",
            marks=pytest.mark.skipif(native.missing() is not None, reason="there are no native kernels"),
        ),
        ("--loss=plugins_of_a_person:scalar", "gives () for 2 examples; expected (2,)"),
        ("--eval_batch_size=99999999", "eval_batch_size is 99999999; expected at most 1797"),
        ("--undefok=lerning_rate", "flag 'undefok' is not for hpjax"),
        ("--run_dir=runs/a[1]", "has '[' in its path"),
    ],
)
def test_what_would_train_to_nonsense_is_refused(words, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "plugins_of_a_person.py").write_text(PLUGINS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for registry in resolve.PARTS.values():
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_imported", {})
    assert train.main(["train", "--devices=1", "--train_steps=20", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def needy(outputs, targets, *, huber_delta: Scalar):
    return huber_delta * outputs[:, 0]


@pytest.fixture
def own_parts(monkeypatch):
    """A module of a person's own parts, none of which is what it should be."""
    module = types.ModuleType("odd_parts")
    module.model = lambda outputs, *, hidden_sizes=(): 7
    module.optimizer = lambda learning_rate=0.1: 7
    module.schedule = lambda step, total_steps: jnp.ones(3)
    module.loss = lambda outputs: outputs
    module.of_the_step = lambda step: 1.0
    module.nothing = lambda step, total_steps: None
    module.look = lambda: None
    module.metric = lambda outputs, targets: (outputs.argmax(-1) == targets).mean()
    module.data = lambda size: size
    module.needy = needy
    monkeypatch.setitem(sys.modules, "odd_parts", module)
    return module


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model=odd_parts:model"], "model 'odd_parts:model' gave a int; expected a Linen or NNX module"),
        (
            ["--optimizer=odd_parts:optimizer"],
            "optimizer 'odd_parts:optimizer' gave a int; expected an optax.GradientTransformation",
        ),
        (["--schedule=odd_parts:schedule"], "schedule 'odd_parts:schedule' gives (3,) for a step; expected one number, ()"),
        (
            ["--loss=odd_parts:loss"],
            "loss 'odd_parts:loss' is not called as (outputs, targets): too many positional arguments",
        ),
        (
            ["--optimizer=odd_parts:look", "--learning_rate=0.1"],
            "optimizer 'odd_parts:look' is not called as (learning_rate): too many positional arguments",
        ),
        (
            ["--schedule=odd_parts:of_the_step"],
            "schedule 'odd_parts:of_the_step' is not called as (step, total_steps): too many positional arguments",
        ),
        (
            ["--schedule=odd_parts:nothing"],
            "schedule 'odd_parts:nothing' gives a NoneType for a step; expected one number, ()",
        ),
        (
            ["--loss=odd_parts:needy", "--huber_delta=2"],
            "loss 'odd_parts:needy' takes 'huber_delta'; expected a default, which evaluations measure with",
        ),
        (
            ["--callback=odd_parts:look"],
            "callback 'odd_parts:look' is not called as (chunk_end): too many positional arguments",
        ),
        (
            ["--metrics=odd_parts:metric"],
            "metric 'odd_parts:metric' gives () for 2 examples; expected (2,), one value an item",
        ),
        (["--dataset=odd_parts:data"], "dataset 'odd_parts:data' is not called as (): missing a required argument: 'size'"),
        (
            ["--flip_probability=0.1"],
            "flip_probability is not used by augment 'none'; settings it uses: none; it is for: flip",
        ),
        (["--set=a=1"], "set has 'a=1', which no chosen part uses; they use: none"),
        (["--schedule=cosine:0"], "schedule: the length of 'cosine' is 0, 0 steps; expected at least one step"),
        (["--warmup_shape=cosine"], "warmup_shape is cosine, but warmup is 0: give --warmup=LENGTH, or neither"),
        (
            ["--warmup_start_factor=0.1", "--warmup=0%"],
            "warmup_start_factor is 0.1, but warmup is 0%: give --warmup=LENGTH, or neither",
        ),
        (
            ["--norescale_schedule"],
            "rescale_schedule is false, but schedule_steps is not given: give both or neither",
        ),
        (
            ["--schedule=cyclic", "--step_size_up=3", "--gamma=0.9"],
            "gamma is 0.9, but cycle_mode is triangular; expected it with cycle_mode exp_range only",
        ),
        (
            ["--weight_decay=0.1", "--weight_decay_schedule=cyclic(step_size_up=2,gamma=0.9)"],
            "gamma is 0.9, but cycle_mode is triangular; expected it with cycle_mode exp_range only",
        ),
        (
            ["--model=cnn", "--norm=batch", "--norm_groups=4"],
            "norm_groups is 4, but norm is batch; expected it with norm group only",
        ),
        (
            ["--model=cnn", "--norm=group", "--norm_momentum=0.5"],
            "norm_momentum is 0.5, but norm is group; expected it with norm batch only",
        ),
        (
            ["--optimizer=nadam", "--optax_form=true", "--momentum_decay=0.1"],
            "momentum_decay is 0.1, but optax_form is true; expected it with optax_form false only",
        ),
        (
            ["--decay_rules=.*=1"],
            "decay_rules is .*=1, but none of weight_decay, l1, l2 is set: expected one of them, or no rules",
        ),
        (
            ["--batch_size_schedule=cosine"],
            "batch_size_schedule changes nothing: a batch is a whole number of micro-batches of 128, at least one; expected "
            "a smaller micro_batch_size, or a schedule that grows",
        ),
        (
            ["--schedule=wsd(decay_length=200%)", "--train_steps=10"],
            "decay_length is 200%; expected at most the schedule's 10 steps",
        ),
        (
            ["--optimizer=schedule_free_sgd", "--ema_decay=0.9"],
            "ema_decay is set; expected none for 'schedule_free_sgd', which averages its parameters itself",
        ),
        (
            ["--optimizer=optax:adabelief", "--learning_rate=0.1", "--set=b1=1.5"],
            "set b1 is '1.5'; expected a number in [0, 1), as float32",
        ),
    ],
)
def test_parts_that_are_none_and_settings_that_do_nothing(refused, own_parts, words, message):
    assert refused(*words) == message


def test_a_part_of_one_run_is_none_of_the_next(own_parts, refused, tmp_path):
    """A schedule of one's own that fails stays with the run that named it."""
    refused("--schedule=odd_parts:schedule")
    small = {"hidden_sizes": (), "train_steps": "1", "devices": "1", "progress": False}
    assert hpjax.run(hpjax.Config(run_dir=str(tmp_path / "after"), **small)).status == "done"
