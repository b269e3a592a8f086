"""Pictures streamed from the disk: the same bits as with data in memory, whatever cuts the stream; what is refused."""

import gzip
import io
import json
import re
import shutil
import tarfile
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import hpjax
import whole_runs as runs
from hpjax import Config, feed
from hpjax.data import DATASETS, memory, scaling, streaming, survey
from hpjax.data.host_order import HostOrder
from hpjax.data.mixup import partner_seed
from hpjax.data.order import example_index
from hpjax.errors import ConfigError, DataError
from many_processes import finish

SETTINGS = {
    **{"optimizer": "adamw", "learning_rate": 0.01, "schedule": "cosine"},
    **{"dataset": "image_folder", "model": "cnn", "channels": (4,), "hidden_sizes": (8,), "dropout_rate": 0.2},
    **{"augment": ("flip", "crop"), "batch_size": 24, "micro_batch_size": 12, "train_steps": "20", "eval_batch_size": 16},
    **{"log_every": "3", "eval_every": "7", "checkpoint_every": "4", "devices": "1"},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 90 pictures in three classes, with splits of its own for training and test, and the same as a tar file."""
    random = np.random.default_rng()
    root = tmp_path_factory.mktemp("pictures") / "mine"
    for split, each in (("train", 25), ("test", 5)):
        for kind in ("cat", "dog", "emu"):
            (root / split / kind).mkdir(parents=True)
            for i in range(each):
                file = io.BytesIO()
                Image.fromarray(random.integers(0, 256, (10, 9, 3), np.uint8)).save(file, "PNG")
                (root / split / kind / f"{i:03}.png").write_bytes(file.getvalue())
    with tarfile.open(root.parent / "mine.tar", "w") as tar:
        tar.add(root, "mine")
    return root


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    """The user's cache folder, a new one for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of five ticks, whatever else cuts chunks, and blocks of some examples."""
    monkeypatch.setattr(feed, "WINDOW_BYTES", 5 * 12 * 270)
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 4 * 270)


def trained(folder: Path, pictures: Path, **changes):
    settings = {**SETTINGS, "data_file": str(pictures), **changes}
    return hpjax.run(Config(**settings, progress=False, run_dir=str(folder)))


def same(one: Path, other: Path) -> None:
    assert runs.lines(one) == runs.lines(other)
    mine, theirs = runs.arrays(one), runs.arrays(other)
    assert mine == theirs and mine
    facts = [runs.metadata(folder) for folder in (one, other)]
    assert facts[0]["data"] == facts[1]["data"]
    assert facts[0]["test"] == facts[1]["test"] and facts[0]["test"]


@pytest.mark.parametrize("size", [1, 2, 10, 255, 256, 300, 55_000, 1_281_167])
def test_the_host_knows_the_device_s_order(size, rng):
    seed, batch = int(rng.integers(2**32)), min(size, 100)
    for partners in (False, True):
        begin = int(rng.integers(3 * size))
        place = np.arange(begin, begin + batch)
        stream = partner_seed(jnp.uint32(seed)) if partners else jnp.uint32(seed)
        expected = jax.jit(example_index, static_argnums=1)(jnp.asarray(place, jnp.uint32), size, stream)
        found = HostOrder.create(size, seed, begin, begin + batch, partners).index(place)
        np.testing.assert_array_equal(found, expected)


def test_the_data_set_is_that_in_memory(pictures, tmp_path):
    """Splits, labels, standardisation and digest, of a folder and a tar file; looked at once."""
    load = DATASETS.get("image_folder")
    for root in (pictures, pictures.parent / "mine.tar"):
        settings = {"data_file": str(root), "data_dir": None, "split_seed": 3}
        whole, streamed = (load(**settings, stream=stream) for stream in ("off", "on"))
        assert streamed.stream is not None and whole.stream is None
        np.testing.assert_array_equal(whole.y, streamed.y)
        assert whole.splits == streamed.splits and whole.class_names == streamed.class_names
        assert (whole.scale, whole.shift) == (streamed.scale, streamed.shift)
        assert whole.fingerprint() == streamed.fingerprint()
        order = streaming.Listed(streamed.stream.numbers)
        found = np.concatenate([x for x, _ in streaming.blocks(streamed.stream.pictures, order, 0)])
        np.testing.assert_array_equal(found, whole.x)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(survey, "blocks", None)
            assert load(**settings, stream="on").fingerprint() == whole.fingerprint()


MANY = {"mixup_alpha": 0.4, "devices": "3", "seed": 5, "eval_batch_size": 15}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, pictures):
    """What runs with their data in memory leave: on one device, and on three with mixup."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for name, changes in (("one", {}), ("many", MANY)):
            assert trained(folder / name, pictures, **changes, stream="off").status == "done"
    return folder


@pytest.mark.parametrize(("name", "changes"), [("one", {}), ("many", MANY)])
def test_streamed_runs_have_the_same_bits(name, changes, whole, pictures, tmp_path, small_windows):
    trained(tmp_path / "streamed", pictures.parent / "mine.tar", **changes, stream="on")
    same(whole / name, tmp_path / "streamed")
    points = [json.loads(line) for line in (tmp_path / "streamed" / "metrics.jsonl").read_text().splitlines()]
    trained_on = [point for point in points if "train/loss" in point]
    assert all(0 <= point["speed/input_busy"] <= 1 for point in trained_on)
    assert any(point.get("speed/input_examples_per_second", 0) > 0 for point in trained_on)


def test_what_bounds_a_run_is_told(pictures, tmp_path, capsys):
    short = {"stream": "on", "train_steps": "4", "eval_every": "4", "log_every": "4", "checkpoint_every": "4"}
    hpjax.run(Config(**{**SETTINGS, **short}, data_file=str(pictures), run_dir=str(tmp_path / "run")))
    assert re.search(
        r"input: [\d,]+ pictures/s while it works, \d+% of the time: the (step|input) bounds", capsys.readouterr().out
    )
    assert "the input bounds the run" in feed.Rates(100.0, 0.95).verdict
    assert "the step bounds the run" in feed.Rates(100.0, 0.5).verdict


def test_a_run_goes_on_streamed_or_in_memory(whole, pictures, tmp_path, small_windows):
    """Killed inside a window, then streamed from there by another process; killed again, then in memory."""
    folder = tmp_path / "run"
    with runs.killed_before(14):
        trained(folder, pictures, stream="on")
    with runs.killed_before(30):
        trained(folder, pictures, stream="on", input_workers=1)
    trained(folder, pictures, stream="off")
    same(whole / "one", folder)


def test_two_processes_read_a_part_each(whole, pictures, tmp_path):
    """As on one device with the data in memory, but for rounding: sums come in another order."""
    settings = {**SETTINGS, "data_file": pictures, "cache_dir": tmp_path / "cache"}
    finish(2, tmp_path / "two", **{**settings, "devices": "auto", "stream": "on"})
    for mine, other in zip(runs.lines(tmp_path / "two"), runs.lines(whole / "one"), strict=True):
        assert mine == pytest.approx(other, rel=1e-3, abs=1e-3)


def test_pictures_that_cannot_be_read(pictures, tmp_path, capsys):
    """Refused, or skipped as in memory; one that is lost while a run goes on ends it in one line."""
    root = tmp_path / "mine"
    shutil.copytree(pictures, root)
    bad = root / "train" / "cat" / "003.png"
    bad.write_bytes(b"no picture")
    load = DATASETS.get("image_folder")
    settings = {"data_file": str(root), "data_dir": None}
    with pytest.raises(DataError, match=r"1 of 90 pictures .* cannot be read: 'train/cat/003.png'"):
        load(**settings, stream="on")
    whole, streamed = (load(**settings, bad_files="skip", stream=stream) for stream in ("off", "on"))
    assert whole.fingerprint() == streamed.fingerprint() and whole.scale == streamed.scale
    assert capsys.readouterr().err.count("skipped: 1 of 90") == 2
    Image.new("RGB", (4, 4)).save(bad)
    with pytest.raises(DataError, match=r"'train/cat/003.png' is 4 x 4, others 9 x 10; expected pictures of one size"):
        load(**settings, stream="on")
    bad.unlink()

    def lost(_):
        (root / "train" / "dog" / "001.png").unlink()
        return "lost"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed.Feed, "described", lost)
        with pytest.raises(DataError, match=r"picture 'train/dog/001.png' in '.*' cannot be read any more: no such file"):
            trained(tmp_path / "run", root, stream="on")


def test_what_is_refused(pictures, tmp_path, monkeypatch):
    for changes, message in (
        ({"folds": 3}, "folds is 3; expected none with streamed data"),
        ({"inspect": ("norms",)}, "inspect is norms; expected none with streamed data"),
        ({"parallel": "pmap"}, "parallel is pmap; expected shard_map with streamed data"),
        ({"dataset": "digits", "data_file": None, "augment": ()}, "stream is not used by dataset 'digits'"),
        ({"stream": "yes"}, "stream is 'yes'; expected one of auto, on, off"),
    ):
        with pytest.raises(ConfigError, match=message):
            trained(tmp_path / "run", pictures, **{"stream": "on", **changes})
    config = Config(**SETTINGS, data_file=str(pictures), stream="on")
    with pytest.raises(ConfigError, match="stream is on, but a study's lanes share data that lie in memory"):
        hpjax.run_sweep(config, vary={"learning_rate": "log(1e-4,1)"}, trials=2, study=str(tmp_path / "study"))
    packed = tmp_path / "mine.tar.gz"
    packed.write_bytes(gzip.compress((pictures.parent / "mine.tar").read_bytes()))
    with pytest.raises(DataError, match="is packed; expected a plain tar file or a folder"):
        trained(tmp_path / "run", packed, stream="on")
    monkeypatch.setattr(memory, "available", lambda: 15_000)
    assert DATASETS.get("image_folder")(data_file=str(pictures), data_dir=None).stream is not None
    with pytest.raises(ConfigError, match=r"validation and test splits take .* expected at most half of the 1.5e-05 GB"):
        trained(tmp_path / "run", pictures)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    assert DATASETS.get("image_folder")(data_file=str(pictures), data_dir=None).stream is None


def test_the_input_does_not_run_far_ahead(pictures, tmp_path, small_windows):
    """While one window is trained on, one waits and one is made; a run that ends early leaves no thread behind."""
    made, fill, at = [], feed.Feed._filled, feed.Feed.at

    def counted(self, source, start, end):
        made.append(start)
        return fill(self, source, start, end)

    def slowly(self, tick):
        time.sleep(0.1)
        assert len(made) <= tick // 5 + 4
        return at(self, tick)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed.Feed, "_filled", counted)
        patch.setattr(feed.Feed, "at", slowly)
        with runs.killed_before(20):
            trained(tmp_path / "run", pictures, stream="on", train_steps="200", eval_every="200")
    assert made and not [thread for thread in threading.enumerate() if thread.name == "hpjax-input"]


def test_bytes_are_standardised_by_their_counts(rng):
    """As by NumPy in float64, and the same bits however the examples are cut; a constant channel is only moved."""
    x = rng.integers(0, 256, (41, 5, 4, 3), np.uint8)
    x[..., 1] = 200
    scale, shift = scaling.scale_and_shift(x, True)
    deviation = x.std(axis=(0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(scale, 1 / np.where(deviation == 0, 1, deviation), rtol=1e-13)
    np.testing.assert_allclose(shift, -x.mean(axis=(0, 1, 2)) * scale, rtol=1e-13)
    parts = sum(scaling.counts(part, True) for part in np.split(x, np.sort(rng.integers(0, 41, 4))))
    assert scaling.of_counts(parts, True) == (scale, shift)
    whole = scaling.scale_and_shift(x, False)
    np.testing.assert_allclose(whole, (1 / x.std(dtype=np.float64), -x.mean() / x.std(dtype=np.float64)), rtol=1e-13)
    assert scaling.scale_and_shift(x[..., :1], True) == ((scale[0],), (shift[0],))
