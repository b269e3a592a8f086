"""`--dry_run` says what the run would be, and leaves nothing behind."""

import os
import re

import numpy as np
import pytest

import hpjax
from hpjax import build, resolve, train
from hpjax.config import Config
from hpjax.data.stand_in import PUBLISHED, stand_in
from hpjax.preview import preview
from hpjax.resolve import static_settings


def test_it_says_what_the_run_would_be(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--dry_run", "--optimizer=adamw", "--hidden_sizes=8", "--batch_size=64", "--micro_batch_size=16"]
    flags += ["--train_steps=30", "--eval_every=7", "--devices=2", "--shard_optimizer_state"]
    assert train.main(["train", *flags]) == 0
    said = capsys.readouterr().out
    parameters = 64 * 8 + 8 + 8 * 10 + 10
    # Two moments of four bytes, and a count for the matrices and one for the rest.
    state, halves = parameters * 8 + 8, sum(-(-size // 2) for size in (64 * 8, 8, 8 * 10, 10)) * 8 + 8
    for expected in (
        "data: digits, 1,079 for train, 359 for val, 359 for test; 122 kB on each device (read)",
        "mesh: lane 1, data 2 (cpu)",
        "a tick on a device: 8 examples [8, 8, 1] of a micro-batch of 16; a step: 4 ticks, 64 examples",
        f"parameters: {parameters:,}, {parameters * 4 / 1000:.3g} kB; optimizer's state: {halves / 1000:.3g} kB on each "
        f"device, {state / 1000:.3g} kB if each had all of it",
        f"steps: {1079 / 64:,.4g} an epoch, 30 in all, 5 evaluations",
    ):
        assert expected in said, said
    rate = re.search(r"time: about \S+ (?:s|min|h) here: (\S+) ticks/s", said)
    # Ticks were run: a product alone takes more than a microsecond.
    assert rate is not None and 1 < float(rate[1].replace(",", "")) < 5e5
    assert re.search(r"memory of a device while it trains: \S+ [kMG]B", said)
    assert os.listdir(tmp_path) == []


def test_data_whose_size_is_known_is_not_read(tmp_path):
    config = Config(dataset="mnist", model="logistic", data_dir=str(tmp_path / "none"), devices="1", dry_run=True)
    said = "\n".join(preview(config))
    assert "data: mnist, 55,000 for train, 5,000 for val, 10,000 for test; 55.2 MB on each device (by its" in said
    assert f"parameters: {28 * 28 * 10 + 10:,}" in said


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_are_those_of_the_files(name):
    config = resolve.resolve(Config(dataset=name, model="logistic"))
    found = stand_in(name, static_settings(config, "dataset"))
    assert found is not None
    standing = found.dataset
    assert standing.x.strides == (0,) * standing.x.ndim
    try:
        real = build.load(config)
    except hpjax.HpjaxError as error:
        pytest.skip(f"needs the files: {error}")
    assert standing.x.shape == real.x.shape and standing.x.dtype == real.x.dtype
    assert dict(standing.splits) == dict(real.splits) and standing.num_classes == real.num_classes
    assert np.shape(standing.scale) == np.shape(real.scale)


def test_bad_input_is_what_it_is_for_the_run(capsys):
    assert train.main(["train", "--dry_run", "--devices=3"]) == 2
    assert "devices is 3; expected a divisor of micro_batch_size, 128" in capsys.readouterr().err


def test_from_python_it_is_a_function_of_its_own():
    with pytest.raises(hpjax.HpjaxError, match=r"dry_run is true; expected hpjax.preview.preview\(config\)"):
        hpjax.run(Config(dry_run=True))


IMAGENET = {"dataset": "image_folder", "data_file": "imagenet", "model": "cnn", "channels": (2,), "devices": "2"}


def test_imagenet_needs_no_folder(tmp_path):
    settings = {**IMAGENET, "data_dir": str(tmp_path), "image_size": 16, "stream": "on", "eval_batch_size": 2000}
    said = "\n".join(preview(Config(**settings, train_steps="2epochs", batch_size=256, dry_run=True)))
    assert "data: image_folder, 1,281,167 for train, 50,000 for val, 0 for test; 1.02 GB streamed" in said
    assert "by ImageNet's published sizes, not read" in said
    assert f"steps: {1281167 / 256:,.4g} an epoch, {-(-2 * 1281167 // 256):,} in all" in said
    with pytest.raises(hpjax.HpjaxError, match="no folder or tar file"):
        preview(Config(**{**settings, "data_file": "photos"}, dry_run=True))


@pytest.mark.parametrize("stream", ["on", "off", "auto"])
def test_pictures_are_counted_and_not_opened(tmp_path, stream):
    for number in range(40):
        path = tmp_path / "imagenet" / ("train", "val")[number % 4 == 0] / "ab"[number % 3 == 0] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no picture")
    settings = {**IMAGENET, "data_dir": str(tmp_path), "image_size": 16, "stream": stream}
    said = "\n".join(preview(Config(**settings, train_steps="3", batch_size=8, dry_run=True)))
    assert "data: image_folder, 30 for train, 10 for val, 0 for test" in said
    assert ("streamed" in said) == (stream == "on")
    assert "its files counted, none read" in said
    with pytest.raises(hpjax.HpjaxError, match="none of 40 pictures can be read"):
        preview(Config(**{**settings, "image_size": None}, train_steps="3", batch_size=8, dry_run=True))


def test_what_there_is_no_memory_for_is_not_tried(monkeypatch):
    """A pod's batch, looked at on a small machine: the compiler says what it needs, and no tick is run."""
    monkeypatch.setattr("hpjax.preview.available", lambda: 1_000_000)
    monkeypatch.setattr("hpjax.build.devices.fastest", lambda *_: pytest.fail("ticks were run"))
    monkeypatch.setattr("hpjax.preview._timed", lambda *_: pytest.fail("ticks were run"))
    config = Config(batch_size=1024, eval_batch_size=256, hidden_sizes=(2048,), train_steps="3", native="off", dry_run=True)
    said = "\n".join(preview(config))
    assert re.search(r"memory of a device while it trains: \S+ MB", said)
    assert re.search(
        r"time: not measured: a device needs \S+ MB for its work, this machine has left for each \S+ kB; exp", said
    )
