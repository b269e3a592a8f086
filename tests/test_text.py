"""Texts: tokens, vocabulary, windows that count each target once, and the files that are refused."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpjax.data import DATASETS, create_language
from hpjax.data.text import left_out
from hpjax.errors import ConfigError, DataError

TEXT = "Äpfel, Birnen und Öl — seven ways to say it.\r\n" * 30


def read(**given):
    return DATASETS.load("text", {"data_dir": None, **given})


def load(folder, content=TEXT, **given):
    (folder / "mine.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(text_file=folder / "mine.txt", **given)


def windows(data, split):
    """Returns a split's inputs and targets, [examples, window] each, as the trial reads them."""
    index = data.part(split)[1][:, None] + np.arange(data.window)
    return data.x[index], data.x[index + 1]


def test_characters_of_the_whole_file_sorted(tmp_path):
    data = load(tmp_path, context_length=8, test_fraction=0.2)
    assert data.class_names == tuple(sorted(set(TEXT)))
    assert "".join(data.class_names[token] for token in data.x) == TEXT
    assert (data.outputs, data.window, data.x.dtype) == (len(set(TEXT)), 8, np.uint8)


def test_bytes_are_the_files(tmp_path):
    data = load(tmp_path, tokens="bytes", context_length=8)
    assert data.x.tobytes() == TEXT.encode()
    assert (data.outputs, data.class_names) == (256, ())
    assert load(tmp_path, b"\xff\xfe" * 100, tokens="bytes", context_length=8).x.tolist() == [255, 254] * 100


def test_a_large_vocabulary_takes_a_larger_type(tmp_path):
    content = "".join(map(chr, range(0x4E00, 0x4E00 + 400)))
    data = load(tmp_path, content, context_length=4)
    assert data.x.dtype == np.uint16
    assert "".join(data.class_names[token] for token in data.x) == content


@settings(deadline=None)
@given(st.integers(1, 9), *[st.integers(0, 60)] * 3)
def test_every_target_counts_once(window, train, val, test):
    sizes = {"train": train + window + 1, "val": val and val + window, "test": test and test + window}
    # Each token is its place in the stream, so that a target says where it stands.
    parts, begin = {}, 0
    for split, size in sizes.items():
        parts[split] = np.arange(begin, begin + size, dtype=np.int32)
        begin += size
    data = create_language("mine", **parts, window=window, num_classes=begin)
    for split, stream in parts.items():
        inputs, targets = windows(data, split)
        np.testing.assert_array_equal(inputs + 1, targets)
        if not len(stream):
            assert data.splits[split][1] == 0
            continue
        if split == "train":
            # A window at every place, from the split's first token to its last.
            np.testing.assert_array_equal(inputs[:, 0], stream[:-window])
            assert targets[-1, -1] == stream[-1]
            assert left_out(data, split) == 0
            continue
        missing = (len(stream) - 1) % window
        np.testing.assert_array_equal(targets.ravel(), stream[1 : len(stream) - missing])
        assert left_out(data, split) == missing


def test_the_splits_are_cut_by_position(tmp_path):
    content = "".join(map(chr, range(33, 133)))
    data = load(tmp_path, content, context_length=3, validation_fraction=0.2, test_fraction=0.1)
    # Tokens 0 to 69, 70 to 89 and 90 to 99; the characters are sorted, so that a token is its place.
    assert data.splits == {"train": (0, 67), "val": (67, 6), "test": (73, 3)}
    assert windows(data, "train")[1].max() == 69
    assert (windows(data, "val")[0].min(), windows(data, "val")[1].max()) == (70, 88)
    assert (windows(data, "test")[0].min(), windows(data, "test")[1].max()) == (90, 99)
    assert [left_out(data, split) for split in data.splits] == [0, 1, 0]


def test_the_file_is_found(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPJAX_DATA_DIR", raising=False)
    with pytest.raises(DataError) as raised:
        read(data_dir=tmp_path / "deep")
    for expected in (str(tmp_path / "deep" / "tinyshakespeare" / "input.txt"), "raw.githubusercontent.com", "--text_file"):
        assert expected in str(raised.value)
    with pytest.raises(DataError, match=r"no file '.*/input\.txt' or .*HPJAX_DATA_DIR names another place"):
        read()
    with pytest.raises(DataError, match="deep' is a folder"):
        read(text_file="deep")
    content = "abc" * 99
    for place in ("deep/tinyshakespeare/input.txt", "deep/input.txt"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(content)
        assert len(read(data_dir="deep", context_length=8).x) == len(content)
        content += "d"
    monkeypatch.setenv("HPJAX_DATA_DIR", str(tmp_path / "deep"))
    assert len(read(text_file="input.txt", context_length=8).x) == len(content) - 1
    assert len(read(text_file="deep/tinyshakespeare/input.txt", context_length=8).x) == 297


@pytest.mark.parametrize(
    ("content", "given", "message"),
    [
        (b"", {}, "mine.txt' is empty"),
        (b"abc\xff", {}, "is no UTF-8 text: byte 0xff at 3; for a file that is none give --tokens=bytes"),
        ("abc", {}, "mine.txt' has 3 tokens, 2 of them for split 'train'; expected at least 65 for context_length 64"),
        ("a" * 200, {}, "has 200 tokens, 20 of them for split 'val'; expected at least 65 for context_length 64"),
        ("a" * 1000, {"test_fraction": 0.05}, "50 of them for split 'test'"),
    ],
)
def test_files_that_are_refused(tmp_path, content, given, message):
    with pytest.raises(DataError) as raised:
        load(tmp_path, content, **given)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokens": "words"}, "tokens is 'words'; expected one of characters, bytes"),
        ({"context_length": 0}, "context_length is 0; expected a whole number >= 1"),
        ({"validation_fraction": 0.6, "test_fraction": 0.4}, r"validation_fraction \+ test_fraction is 1\.0"),
    ],
)
def test_settings_that_are_refused(tmp_path, given, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, **given)


@pytest.mark.skipif(not os.environ.get("HPJAX_DATA_DIR"), reason="HPJAX_DATA_DIR is not set: no tiny Shakespeare")
def test_tiny_shakespeare_is_cut_as_nanogpt_does():
    data = read()
    # nanoGPT's data/shakespeare_char: 65 characters, 1,003,854 tokens for training and 111,540 for validation.
    assert (len(data.x), data.outputs) == (1115394, 65)
    assert data.splits == {"train": (0, 1003854 - 64), "val": (1003790, (111540 - 1) // 64), "test": (1005532, 0)}
    assert data.part("val")[1][0] == 1003854
    assert left_out(data, "val") == 51
    assert "".join(data.class_names[token] for token in data.x[:14]) == "First Citizen:"
