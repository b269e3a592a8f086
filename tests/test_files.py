"""Files of one's own: what is written comes back, scales are of the training split, and what is wrong is named."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import StandardScaler

from hpjax.data import DATASETS
from hpjax.errors import ConfigError, DataError

ROUND_TRIP = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Not so small that they cannot be standardised in float32, which is refused.
NUMBERS = st.floats(-1e6, 1e6, width=32).map(lambda value: value if abs(value) > 1e-30 else 0.0)
NO_SPLIT = {"validation_fraction": 0.0, "test_fraction": 0.0}


def npz(path, arrays, **given):
    np.savez(path / "mine.npz", **arrays)
    return DATASETS.load("npz", {"data_file": path / "mine.npz", "data_dir": None, **given})


def csv(path, text, **given):
    (path / "mine.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return DATASETS.load("csv", {"data_file": path / "mine.csv", "data_dir": None, **given})


def refusal(call, *words, **given):
    with pytest.raises((ConfigError, DataError)) as raised:
        call(*words, **given)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# Tables of comma-separated values


@ROUND_TRIP
@given(data=st.data(), columns=st.integers(1, 4), rows=st.integers(2, 12))
def test_a_table_comes_back(data, columns, rows, tmp_path):
    x = data.draw(hnp.arrays(np.float32, (rows, columns), elements=NUMBERS))
    words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=5)
    plain = words.filter(lambda word: word.lower() not in ("na", "n/a", "nan", "null", "none", "?") and not is_number(word))
    labels = ["first", "second", *data.draw(st.lists(plain, min_size=rows - 2, max_size=rows - 2))]
    quoted = ['"' + label.replace('"', '""') + '"' for label in labels]
    lines = [",".join([*(f"c{i}" for i in range(columns)), "kind"])]
    lines += [",".join([*map(repr, map(float, row)), label]) for row, label in zip(x, quoted, strict=True)]
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    loaded = csv(tmp_path, end.join(lines) + data.draw(st.sampled_from(["", end, end + end])), **NO_SPLIT)
    np.testing.assert_array_equal(loaded.x, x)
    assert [loaded.class_names[label] for label in loaded.y] == labels
    assert loaded.class_names == tuple(sorted(set(labels)))


def is_number(word):
    with contextlib.suppress(ValueError):
        float(word)
        return True
    return False


TABLE = "size,weight,price\n" + "".join(f"{i},{i * i % 17},{3.5 * i}\n" for i in range(40))


def test_a_regression_standardised_as_scikit_learn_does(tmp_path):
    data = csv(tmp_path, TABLE, task="regression")
    assert (data.task, data.outputs, data.splits["test"]) == ("regression", 1, (32, 8))
    x, y = data.part("train")
    standard = StandardScaler().fit(x.astype(np.float64))
    ours = np.array(data.scale) * x.astype(np.float64) + np.array(data.shift)
    np.testing.assert_allclose(ours, standard.transform(x.astype(np.float64)), atol=1e-9)
    # price is 3.5 size, in every split.
    np.testing.assert_allclose(data.y * data.target_scale + data.target_shift, 3.5 * data.x[:, 0], atol=1e-4)
    assert y.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)


def test_any_column_may_be_the_target(tmp_path):
    data = csv(tmp_path, TABLE, task="regression", target="weight")
    np.testing.assert_array_equal(np.sort(data.x[:, 1]), 3.5 * np.arange(40))
    np.testing.assert_allclose(data.y * data.target_scale + data.target_shift, data.x[:, 0] * data.x[:, 0] % 17, atol=1e-5)


def test_whole_numbers_as_classes_are_sorted_by_value(tmp_path):
    data = csv(tmp_path, "x,y\n" + "".join(f"{i},{(10, 9, -1)[i % 3]}\n" for i in range(12)), **NO_SPLIT)
    assert data.class_names == ("-1", "9", "10")
    assert data.y.tolist() == [2, 1, 0] * 4


def test_held_out_rows_do_not_change_the_scales(tmp_path):
    lines = TABLE.splitlines()
    data = csv(tmp_path, TABLE, task="regression", target="price")
    held_out = set(data.x[data.splits["val"][0] :, 0].astype(int).tolist())
    assert len(held_out) == 16
    changed = [
        line if i - 1 not in held_out or i == 0 else f"{line.split(',')[0]},999,{line.split(',')[2]}"
        for i, line in enumerate(lines)
    ]
    again = csv(tmp_path, "\n".join(changed), task="regression", target="price")
    assert (again.part("val")[0][:, 1] == 999).all()
    assert (again.scale, again.shift) == (data.scale, data.shift)
    assert (again.target_scale, again.target_shift) == (data.target_scale, data.target_shift)


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        (b"", {}, "is empty; expected a line of column names"),
        ("a,b\n", {}, "has column names and no rows"),
        ("a\n1\n", {}, "it has one column; expected columns separated by commas"),
        ("a;b\n1;2\n", {}, "its first line has semicolons and no comma"),
        ("1,2\n3,4\n", {}, "the first line holds numbers (1, 2, ...); expected column names"),
        ("a,,b\n1,2,3\n", {}, "column 2 has no name"),
        ("a,b,a\n1,2,3\n", {}, "two columns are named 'a'"),
        ("a,b\n1,2\n\n1,2,3\n", {}, "line 4: 3 values; expected 2, one for each column name"),
        ("a,b\n1,2\n,3\n", {}, "line 3: column 'a' has no value (''); expected a number: fill it in or leave the row out"),
        ("a,b\n1,2\nNaN,3\n", {}, "line 3: column 'a' has no value ('NaN')"),
        ("a,b\n1,2\ninf,3\n", {}, "line 3: column 'a' has 'inf'; expected a finite number"),
        (
            "a,b\n1,x\nred,y\n",
            {},
            "line 3: column 'a' has 'red'; expected a number: encode texts as numbers or leave the column out",
        ),
        ("a,b\n1,x\n2,?\n", {}, "line 3: column 'b' has no value ('?'); expected a class: leave the row out"),
        ("a,b\n1,x\n2,x\n", {}, "column 'b' has only 'x'; expected at least two classes"),
        ("a,b\n1,1\n2,1.5\n", {}, "line 3: column 'b' has '1.5'; expected a text or a whole number"),
        ("a,b\n1,1\n2,2.0\n3,2\n", {}, "column 'b' has '2' and '2.0'; expected one spelling of a class"),
        ("a,b\n1,x\n2,y\n", {"task": "regression"}, "line 2: column 'b' has 'x'; expected a number: for texts to predict"),
        ("a,b\n1,1\n2,2\n", {"target": "c"}, "target is 'c'; expected a column of file '"),
        ("size,b\n1,1\n2,2\n", {"target": "Size"}, "did you mean 'size'?"),
        ("a,b\n1,x\n2,y\n", {"task": "language"}, "expected one of classification, regression for dataset 'csv'"),
        ("a,b\n1,x\n2,y\n", {"task": "regresion"}, "did you mean 'regression'?"),
        (b"a,b\n1,\xff\n", {}, "is no UTF-8 text: byte 0xff at 6"),
        ('a,b\n1,"x\n', {}, "unexpected end of data; expected comma-separated values"),
        ("a,b\n1e300,x\n2,y\n", {}, "feature 'a' goes from 2.0 to 1e+300, which float32 cannot tell apart"),
        ("time,b\n1700000001,x\n1700000002,y\n", {}, "feature 'time' goes from 1700000001.0 to 1700000002.0"),
        ("a,b\n1e-60,x\n3e-60,y\n", {}, "feature 'a' goes from 1e-60 to 3e-60"),
        ("a,b\n1,x\n2,y\n", {"validation_fraction": 0.3, "test_fraction": 0.6}, "no training example is left"),
        ("a,b\n1,x\n2,y\n", {"split_seed": -1}, "split_seed is -1"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, given, message):
    assert message in refusal(csv, tmp_path, text, **given)


@pytest.mark.parametrize("name", ["csv", "npz"])
def test_missing_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPJAX_DATA_DIR", raising=False)
    answer = refusal(DATASETS.load, name, {"data_file": f"mine.{name}", "data_dir": None})
    assert f"dataset '{name}': no file '{tmp_path / 'mine'}.{name}'; expected a file of your own" in answer
    assert answer.endswith("HPJAX_DATA_DIR names another place to look")
    answer = refusal(DATASETS.load, name, {"data_file": f"mine.{name}", "data_dir": "deep"})
    assert f"'{tmp_path / 'mine'}.{name}' or '{tmp_path / 'deep' / 'mine'}.{name}'" in answer


# NumPy's npz


DTYPES = st.sampled_from([np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64, np.bool_])


@ROUND_TRIP
@given(data=st.data(), dtype=DTYPES, shape=hnp.array_shapes(min_dims=1, max_dims=3, max_side=3), rows=st.integers(1, 9))
def test_arrays_come_back(data, dtype, shape, rows, tmp_path):
    elements = st.floats(-1000, 1000, width=16) if np.dtype(dtype).kind == "f" else None
    if np.dtype(dtype).kind == "i":
        elements = st.integers(-1000, 1000)
    x = data.draw(hnp.arrays(dtype, (rows, *shape), elements=elements))
    y = data.draw(hnp.arrays(st.sampled_from([np.int8, np.uint16, np.int64]), rows, elements=st.integers(0, 9)))
    loaded = npz(tmp_path, {"x": x, "y": y}, **NO_SPLIT)
    np.testing.assert_array_equal(loaded.x, x)
    np.testing.assert_array_equal(loaded.y, y)
    assert loaded.x.dtype == (np.uint8 if dtype is np.uint8 else np.float32)
    assert loaded.num_classes == y.max() + 1


def parts(rng, *, val=True, test=True):
    """Returns arrays of up to three splits; a file is read with the task that `y` is for."""
    arrays = {"x": rng.normal(size=(30, 4)), "y": np.arange(30) % 3}
    if val:
        arrays |= {"x_val": rng.normal(size=(7, 4)), "y_val": np.arange(7) % 3}
    if test:
        arrays |= {"x_test": rng.normal(size=(5, 4)), "y_test": np.arange(5) % 3}
    return arrays


def test_splits_of_the_file_are_kept(tmp_path, rng):
    arrays = parts(rng)
    data = npz(tmp_path, arrays)
    assert data.splits == {"train": (0, 30), "val": (30, 7), "test": (37, 5)}
    np.testing.assert_array_equal(data.part("val")[0], arrays["x_val"].astype(np.float32))
    np.testing.assert_allclose(1 / np.array(data.scale), arrays["x"].astype(np.float32).std(0, dtype=np.float64), rtol=1e-12)
    arrays["x_val"] = arrays["x_val"] + 100
    assert npz(tmp_path, arrays).scale == data.scale
    renamed = {{"x": "x_train", "y": "y_train"}.get(name, name): array for name, array in arrays.items()}
    assert npz(tmp_path, renamed).fingerprint() == npz(tmp_path, arrays).fingerprint()


@pytest.mark.parametrize(
    ("val", "test", "sizes"), [(False, False, (18, 6, 6)), (True, False, (30, 7, 0)), (False, True, (24, 6, 5))]
)
def test_missing_splits_are_cut_from_x(tmp_path, rng, val, test, sizes):
    data = npz(tmp_path, parts(rng, val=val, test=test))
    assert tuple(size for _, size in data.splits.values()) == sizes


def test_held_out_targets_do_not_change_the_scale(tmp_path, rng):
    arrays = {"x": rng.normal(size=(20, 2)), "y": rng.normal(size=(20, 3))}
    arrays |= {"x_val": rng.normal(size=(4, 2)), "y_val": rng.normal(size=(4, 3))}
    data = npz(tmp_path, arrays, task="regression")
    assert (data.outputs, data.y.shape) == (3, (24, 3))
    again = npz(tmp_path, {**arrays, "y_val": arrays["y_val"] * 1000}, task="regression")
    assert (again.target_scale, again.target_shift) == (data.target_scale, data.target_shift)
    np.testing.assert_allclose(
        again.part("val")[1] * data.target_scale + data.target_shift, arrays["y_val"] * 1000, rtol=1e-3
    )


def test_texts_as_classes(tmp_path):
    arrays = {"x": np.eye(4), "y": np.array(["b", "a", "b", "c"]), "x_val": np.eye(4)[:1], "y_val": np.array(["aa"])}
    data = npz(tmp_path, arrays)
    assert data.class_names == ("a", "aa", "b", "c")
    assert data.y.tolist() == [2, 0, 2, 3, 1]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float64, np.int64])
def test_rows_of_labels(tmp_path, dtype):
    y = np.array([[0, 1], [1, 1], [0, 0]], dtype)
    data = npz(tmp_path, {"x": np.eye(3), "y": y}, task="multilabel", **NO_SPLIT)
    assert (data.task, data.outputs, data.y.dtype) == ("multilabel", 2, np.uint8)
    np.testing.assert_array_equal(data.y, y)


SOUND = {"x": np.eye(6), "y": np.arange(6) % 3}


@pytest.mark.parametrize(
    ("arrays", "given", "message"),
    [
        ({"x": np.eye(3)}, {}, "has no array 'y'; it has x"),
        ({"y": np.arange(3)}, {}, "has no array 'x'"),
        ({}, {}, "has no array 'x'; it has none"),
        ({**SOUND, "x_val": np.eye(6)}, {}, "has no array 'y_val'"),
        ({**SOUND, "x_valid": np.eye(6)}, {}, "has an array 'x_valid'; expected x, y, x_val, y_val, x_test, y_test"),
        ({**SOUND, "y": np.arange(5)}, {}, "split 'train' has 6 inputs and 5 labels"),
        ({**SOUND, "x_val": np.ones((2, 3)), "y_val": np.zeros(2, int)}, {}, "split 'val' has inputs float32[3]"),
        (
            {**SOUND, "y": np.ones(6)},
            {},
            "y is float64[6]; expected whole numbers or texts [examples] as classes: for numbers",
        ),
        ({**SOUND, "y": np.eye(6, dtype=int)}, {}, "give --task=multilabel"),
        ({**SOUND, "y": np.arange(6) - 1}, {}, "y is int64[6] and has -1; expected classes from 0"),
        ({**SOUND, "y": np.full(6, 2**40)}, {}, "has 1099511627776; expected classes from 0"),
        ({**SOUND, "y": np.array(list("abcabc"), dtype=object)}, {}, "holds an array of Python objects"),
        ({**SOUND, "x": np.arange(6.0)}, {}, "x is float64[6]; expected numbers [examples, features ...]"),
        ({**SOUND, "x": np.array([["a"]] * 6)}, {}, "x is <U1[6, 1]; expected numbers"),
        ({**SOUND, "x": np.full((6, 2), np.nan)}, {}, "12 input values are not finite"),
        ({**SOUND, "x": np.ones((6, 0))}, {}, "expected at least one value in each example"),
        ({"x": np.ones((0, 2)), "y": np.ones(0, int)}, {}, "no training example is left"),
        ({**SOUND, "x": 1.7e9 + np.arange(12.0).reshape(6, 2)}, {}, "x: feature 0 goes from 1700000000.0 to 1700000010.0"),
        (SOUND, {"task": "multilabel"}, "expected 0 and 1 [examples, classes] for the task 'multilabel'"),
        (SOUND, {"task": "language"}, "for tokens there is --dataset=text"),
        ({**SOUND, "y": np.array(["a"] * 6)}, {"task": "regression"}, "expected numbers [examples] or [examples, targets]"),
        ({**SOUND, "y": np.full(6, np.inf)}, {"task": "regression"}, "6 target values are not finite"),
        (
            {**SOUND, "x_val": np.eye(6), "y_val": np.arange(6) % 3},
            {"validation_fraction": 0.1},
            "validation_fraction is 0.1, but file '",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_arrays_that_are_refused(tmp_path, arrays, given, message):
    assert message in refusal(npz, tmp_path, arrays, **given)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.arange(4000.0).reshape(100, 40), y=np.arange(100))
    content = path.read_bytes()
    np.save(tmp_path / "one.npy", np.eye(3))
    for damaged in (b"", b"text", content[:-30], content[:1000] + bytes([content[1000] ^ 255]) + content[1001:]):
        path.write_bytes(damaged)
        answer = refusal(DATASETS.load, "npz", {"data_file": path, "data_dir": None})
        assert f"file '{path}' is damaged or no npz file; expected a file of your own, made by numpy.savez(" in answer
    assert "holds one array" in refusal(DATASETS.load, "npz", {"data_file": tmp_path / "one.npy", "data_dir": None})
