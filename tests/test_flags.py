"""Flags and flagfiles: generated from `Config`, and the way back."""

import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpjax import flags
from hpjax.config import FIELDS, GROUPS, NOT_PART_OF_A_RUN, Config, kind
from hpjax.errors import ConfigError
from hpjax.resolve import resolve
from hpjax.settings.fields import choices
from hpjax.study.space import Space

ROOT = Path(__file__).parent.parent

CONFIGS = {
    "defaults": {},
    "adamw_cosine": {
        "optimizer": "adamw",
        "beta1": 1 / 3,
        "epsilon": 1e-12,
        "schedule": "cosine",
        "end_factor": 0.1 + 0.2,
        "warmup": "5%",
        "warmup_start_factor": 1e-5,
    },
    "lars_step": {"optimizer": "lars", "trust_coefficient": 0.02, "schedule": "step", "step_size": "30%", "gamma": 0.5},
    "cnn": {"model": "cnn", "channels": (4, 8), "hidden_sizes": (16,), "activation": "tanh", "dropout_rate": 0.25},
    "linear": {"hidden_sizes": ()},
    "mnist": {"dataset": "mnist", "data_dir": "/data/with a space/and=sign#,", "validation_fraction": 1 / 7},
    "clipped": {"clip_norm": 1 / 3, "label_smoothing": 0.1, "l2": 1e-30, "seed": 2**32 - 1, "data_seed": 0},
    "accumulating": {"batch_size": 96, "micro_batch_size": 32, "devices": 4, "lane_width": 2, "parallel": "pmap"},
    "lengths": {"train_steps": "2.5epochs", "eval_every": "7", "log_every": "640examples", "checkpoint_every": "10%"},
    "written_for_another_run": {"schedule": "cosine", "schedule_steps": "100epochs", "rescale_schedule": False},
    "objective": {"objective": "val/loss:min", "objective_value": "smoothed", "keep_best": 3, "tensorboard": False},
    "another_objective": {"objective": "val/f1_macro:max", "metrics": ("accuracy", "confusion_matrix")},
    "no_metrics": {"metrics": ()},
    "scheduled": {
        "schedule": "linear(start_factor=0.1,end_factor=1):10%, multistep(milestones=30%,60%)",
        "momentum_schedule": "constant:20%, cosine(end_factor=0.5)",
        "weight_decay": 0.1,
        "weight_decay_schedule": "cosine",
        "batch_size_schedule": "linear(start_factor=1,end_factor=4)",
    },
    "rules": {
        "freeze": ("Dense_0/bias",),
        "l2": 1e-4,
        "decay_rules": ("norm|bias=0", ".*=1"),
        "learning_rate_rules": ("Dense_1=10", ".*=1"),
    },
    "early_stopping": {
        "early_stopping_patience": 3,
        "early_stopping_min_delta": 1 / 3,
        "early_stopping_min_steps": "2epochs",
    },
    "averaged": {"ema_decay": 1 / 3, "sam_rho": 0.05, "mixup_alpha": 0.2, "augment": ("flip", "crop"), "crop_padding": 2},
    "inspected": {"inspect": ("norms", "sharpness"), "sharpness_values": 3},
    "language": {"dataset": "text", "data_dir": "/texts", "tokens": "bytes", "model": "transformer", "tie_embeddings": True},
    "csv": {"dataset": "csv", "data_file": "a file, with=signs.csv", "target": "the column", "task": "regression"},
}


def parse(*words: object) -> Config:
    return flags.parse(["program", *map(str, words)])


def error(*words: object) -> str:
    with pytest.raises(ConfigError) as raised:
        parse(*words)
    return str(raised.value)


@pytest.fixture
def flagfile(tmp_path):
    """A function that writes a flagfile and returns its path."""

    def write(text: str, name: str = "some.flags") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_no_flag_is_the_default_config():
    assert parse() == Config()


TEXTS = {
    "parallel": "pmap",
    "objective_value": "last",
    "devices": "2",
    "lane_width": "3",
    "nesterov": "false",
    "centered": "true",
    "optax_form": "true",
    "muon_scale": "original",
    "beta2_decay": "-0.5",
    "hidden_sizes": "7,5",
    "channels": "3",
    "stem": "cifar",
    "norm": "group",
    "zero_init_last": "false",
    "data_dir": "/data",
    "run_dir": "there",
    "tie_embeddings": "true",
}
"""A text for settings that not every text suits; the others take one of their words, or the number 0.5 or 7."""


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_its_flag(name):
    words = choices(FIELDS[name].metadata["domain"])
    if kind(name) is bool:
        text = "false" if FIELDS[name].default else "true"
    else:
        text = (
            TEXTS.get(name)
            or next((word for word in words if word != FIELDS[name].default), None)
            or {bool: "true", float: "0.5"}.get(kind(name), "7")
        )
    changed = Config(**{name: text})
    assert getattr(changed, name) != FIELDS[name].default
    assert parse(f"--{name}={text}") == changed
    assert parse(f"--{name}={text}", "--seed=3").replace(seed=changed.seed) == changed


@pytest.mark.parametrize("name", CONFIGS)
def test_flagfile_gives_the_resolved_config_back(name, flagfile):
    config = resolve(Config(**CONFIGS[name], run_dir="x", resume=False, overwrite=True, progress=False))
    again = parse(f"--flagfile={flagfile(flags.to_flagfile(config, ['a header', '--no flag']))}")
    where_and_how = {name: FIELDS[name].default for name in NOT_PART_OF_A_RUN}
    assert again == config.replace(**where_and_how)
    assert resolve(again) == again


def test_flagfile_says_what_is_not_used():
    lines = flags.to_flagfile(resolve(Config())).splitlines()
    assert "# beta1: not used" in lines
    assert "--momentum=0.9" in lines
    assert not [line for line in lines if "run_dir" in line]


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.flags")), ids=lambda path: path.stem)
def test_the_command_in_an_experiments_header_resolves(path, monkeypatch):
    """The last command: one before it prepares what it needs."""
    monkeypatch.chdir(ROOT)
    lines = [line for line in path.read_text().splitlines() if line.startswith("#")]
    *_, (program, rest) = [
        (program, line.partition(program)[2])
        for line in lines
        for program in ("hpjax.train", "hpjax.sweep")
        if f"-m {program}" in line
    ]
    words = shlex.split(rest)
    assert f"--flagfile=experiments/{path.name}" in words
    if program == "hpjax.train":
        resolve(parse(*words))
        return
    config, study = flags.parse_study([program, *words])
    space = Space.parse(study.vary, config)
    resolve(config.replace(**space.values([0.5] * len(space.leaves)), **space.replicas[0]))


def test_a_later_flag_overrides_an_earlier_one(flagfile):
    path = flagfile("--seed=1\n--seed=2\n--batch_size=8")
    assert parse(f"--flagfile={path}") == Config(seed=2, batch_size=8)
    assert parse(f"--flagfile={path}", "--seed=3") == Config(seed=3, batch_size=8)
    assert parse("--seed=3", f"--flagfile={path}") == Config(seed=2, batch_size=8)


def test_a_flag_without_text_takes_back_an_earlier_one():
    assert parse("--clip_norm=1", "--clip_norm=") == Config()


def test_nested_flagfiles(flagfile):
    inner = flagfile("--seed=1\n--batch_size=8", "inner.flags")
    outer = flagfile(f"\n# a comment\n// another\n   --seed=2  \n--flagfile={inner}\n--momentum=0.5", "outer.flags")
    assert parse("--flagfile", outer) == Config(seed=1, batch_size=8, momentum=0.5)
    assert parse(f"-flagfile={inner}", f"--flagfile={inner}") == Config(seed=1, batch_size=8)


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (["--noresume"], {"resume": False}),
        (["--resume=false"], {"resume": False}),
        (["--noresume", "--resume"], {}),
        (["--overwrite"], {"overwrite": True}),
        (["--overwrite=yes"], {"overwrite": True}),
        (["--seed", "3", "-batch_size=8"], {"seed": 3, "batch_size": 8}),
    ],
)
def test_forms_of_a_flag(words, config):
    assert parse(*words) == Config(**config)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning_rat=1"], "flag 'learning_rat' is unknown; did you mean 'learning_rate'?"),
        (["--learning-rate=1"], "flag 'learning-rate' is unknown; did you mean 'learning_rate'?"),
        (["--flagfil=x"], "flag 'flagfil' is unknown; did you mean 'flagfile'?"),
        (["--lr=1"], "flag 'lr' is unknown; --helpfull lists all flags"),
        (["--noseed"], "flag 'noseed' is unknown; did you mean 'seed'?"),
        (["--seed"], "flag 'seed' has no value; expected --seed=VALUE"),
        (["--seed=x"], "seed is 'x'; expected a whole number"),
        (["--resume=maybe"], "resume is 'maybe'; expected true or false"),
        (["--noresume=true"], "flag 'noresume' takes no value; expected --noresume or --resume=true"),
        (["--model='mlp'"], "model is 'mlp'; expected a value without quotes"),
        (["more"], "argument 'more' is no flag; expected --name=value"),
        (["--seed=1", "--", "--seed=2"], "argument '--seed=2' is no flag; expected --name=value"),
        (["--flagfile"], "flag 'flagfile' has no value; expected --flagfile=PATH"),
        (["--flagfile="], "flag 'flagfile' has no value; expected --flagfile=PATH"),
    ],
)
def test_refused_words(words, message):
    assert error(*words) == message


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("--seed=1\n\n--sed=2", 3, "flag 'sed' is unknown; did you mean 'seed'?"),
        ("--seed = 1", 1, "flag 'seed ' is unknown; did you mean 'seed'?"),
        ("--seed", 1, "flag 'seed' has no value; expected --seed=VALUE"),
        ("seed=1", 1, "argument 'seed=1' is no flag; expected --name=value"),
        ('# run\n--optimizer="adamw"', 2, 'optimizer is "adamw"; expected a value without quotes'),
        ("--flagfile=/no/such.flags", 1, "flagfile '/no/such.flags' cannot be read: no such file or directory; "),
    ],
)
def test_an_error_in_a_flagfile_names_its_line(text, line, message, flagfile):
    path = flagfile(text)
    assert error(f"--flagfile={path}").startswith(f"{path}:{line}: {message}")


def test_flagfiles_that_cannot_be_read(tmp_path, flagfile):
    expected = "expected a file of lines --name=value"
    assert error(f"--flagfile={tmp_path}") == f"flagfile '{tmp_path}' cannot be read: is a directory; {expected}"
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert error(f"--flagfile={tmp_path / 'binary'}") == (
        f"flagfile '{tmp_path / 'binary'}' is no text file; expected lines --name=value"
    )
    loop = flagfile(f"--flagfile={tmp_path / 'loop.flags'}", "loop.flags")
    assert error(f"--flagfile={loop}") == f"{loop}:1: flagfile '{loop}' includes itself"


@pytest.mark.parametrize("full", [False, True])
def test_help_lists_the_main_flags_or_all(full):
    lines = flags.help_text("python -m hpjax.train", "Trains.", full).splitlines()
    listed = [line.split()[0].removeprefix("--") for line in lines if line.startswith("  --")]
    assert listed == [name for name, field in FIELDS.items() if full or field.metadata["main"]]
    assert [line.rstrip(":") for line in lines if line.endswith(":") and line[0] != " "] == list(GROUPS.values())
    assert max(map(len, lines)) <= 125


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--help"], False),
        (["-h"], False),
        (["--seed=1", "--help"], False),
        (["--helpfull"], True),
        (["--help", "--helpfull"], True),
        (["--seed=1"], None),
        (["help"], None),
    ],
)
def test_wants_help(words, answer):
    assert flags.wants_help(["program", *words]) is answer


def test_help_answers_at_once():
    command = [sys.executable, "-m", "hpjax.train", "--help"]
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        seconds.append(time.monotonic() - start)
        assert (done.returncode, done.stderr) == (0, "")
        assert "--learning_rate" in done.stdout
    print(f"--help takes {min(seconds):.2f} s")
    assert min(seconds) < 3


@pytest.mark.parametrize("word", ["--helpfull", "--learning_rat=1", "--learning_rate=-1"])
def test_jax_is_not_loaded_before_the_flags_are_checked(word):
    program = (
        "import sys; from hpjax import train; code = train.main(['hpjax.train', sys.argv[1]]);"
        "print('LOADED', sorted({'jax', 'jaxlib', 'flax', 'numpy', 'sklearn'} & sys.modules.keys()), code)"
    )
    command = [sys.executable, "-c", program, word]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"LOADED [] {0 if word == '--helpfull' else 2}"
