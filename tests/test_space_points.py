"""Files of known points: JSON lists, JSON lines and csv, and a message with file and line for each that is none."""

import csv
import io
import json

import pytest

from hpjax.config import Config
from hpjax.errors import ConfigError
from hpjax.study.space import Space, read_points

SPACE = Space.parse(
    [
        "learning_rate=log(1e-4,1)",
        "optimizer=choice(adam,'optax:sgd')",
        "hidden_sizes=choice('64,64',none)",
        "batch_size=int(1,64)",
        "clip_norm=choice(1,none)",
        "seed=range(3)",
    ],
    Config(),
)
ROWS = [
    {"learning_rate": 0.1, "optimizer": "adam", "hidden_sizes": (64, 64), "batch_size": 32},
    # Outside of what is searched.
    {"learning_rate": 1 / 3, "optimizer": "optax:sgd", "hidden_sizes": ()},
    {"learning_rate": 1e-7},
]


def read(path, text: str) -> list[dict]:
    path.write_text(text, encoding="utf-8")
    return read_points(path, SPACE)


def error(path, text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        read(path, text)
    message = str(raised.value)
    assert "\n" not in message
    return message.replace(str(path), "FILE")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2) + "\n\n",
        "\n".join(map(json.dumps, ROWS)),
        "\n\n".join(json.dumps(row, indent=1) for row in ROWS) + "\n",
        "\ufeff" + json.dumps(ROWS),
        'learning_rate,optimizer,hidden_sizes,batch_size\n0.1,adam,"64,64",32\n\n'
        "0.3333333333333333,optax:sgd,none,\n1e-7,,,\n",
        'batch_size, optimizer, hidden_sizes, learning_rate\r\n32, adam, "64,64", 0.1\r\n'
        ",optax:sgd,none,0.3333333333333333\r\n,,, 1e-7\r\n",
    ],
)
def test_every_form(tmp_path, text):
    found = read(tmp_path / "points", text)
    assert found == ROWS
    assert [list(one) for one in found] == [list(row) for row in ROWS]
    assert [type(value) for value in found[0].values()] == [float, str, tuple, int]


def test_what_python_writes_is_read_back_exactly(tmp_path, rng):
    values = [
        {"learning_rate": float(u), "batch_size": int(n)}
        for u, n in zip(rng.random(50), rng.integers(1, 99, 50), strict=True)
    ]
    table = io.StringIO()
    writer = csv.DictWriter(table, ["learning_rate", "batch_size"])
    writer.writeheader()
    writer.writerows(values)
    assert read(tmp_path / "a", table.getvalue()) == values
    assert read(tmp_path / "b", json.dumps(values)) == values


def test_none_is_a_value(tmp_path):
    for text in ('[{"clip_norm": null}]', '[{"clip_norm": "none"}]', "batch_size,clip_norm\n,none\n"):
        assert read(tmp_path / "a", text) == [{"clip_norm": None}]
    assert read(tmp_path / "a", '{"hidden_sizes": "none"}') == [{"hidden_sizes": ()}]
    assert read(tmp_path / "a", '{"hidden_sizes": [32, 16]}') == [{"hidden_sizes": (32, 16)}]


KNOWN = "varied: learning_rate, optimizer, hidden_sizes, batch_size, clip_norm"
EXAMPLE = 'expected for example {"learning_rate": 0.1}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE holds no points; expected a JSON list of objects, JSON lines or csv"),
        ("[]", "FILE holds no points; expected a JSON list of objects, JSON lines or csv"),
        ("learning_rate\n", "FILE holds no points; expected a JSON list of objects, JSON lines or csv"),
        ('[{"learning_rte": 1}]', f"FILE:1: setting 'learning_rte' is not varied; did you mean 'learning_rate'? {KNOWN}"),
        ('{"l2": 1}', f"FILE:1: setting 'l2' is not varied; {KNOWN}"),
        ("learning_rate,seed\n1,2\n", f"FILE:2: 'seed' repeats every point; expected hyperparameters: {KNOWN[8:]}"),
        (
            '{"learning_rate": 1}\n\n{"learning_rate": 0}',
            "FILE:3: learning_rate is 0; expected a finite number > 0 (float32: 1.2e-38 to 3.4e38)",
        ),
        ("batch_size\n32\n1.5\n", "FILE:3: batch_size is '1.5'; expected a whole number"),
        ('[\n {"batch_size": true}]', "FILE:2: batch_size is True; expected a whole number"),
        (
            '{"learning_rate": NaN}',
            "FILE:1: learning_rate is nan; expected a finite number > 0 (float32: 1.2e-38 to 3.4e38)",
        ),
        ('[{"batch_size": [1]}]', "FILE:1: batch_size is (1,); expected a whole number"),
        ('[{"batch_size": {"a": 1}}]', "FILE:1: batch_size is an object; expected a number, a text, true, false or null"),
        ('[{"batch_size": null}]', "FILE:1: batch_size is None; expected a whole number"),
        ('{"batch_size": 1, "batch_size": 2}', "FILE:1: 'batch_size' is there twice; expected it once"),
        ("batch_size,batch_size\n1,2\n", "FILE:2: 'batch_size' is there twice; expected it once"),
        ("batch_size,learning_rate\n1\n", "FILE:2: 1 cells; expected 2, as in the header"),
        ('batch_size,learning_rate\n1,"2\n', "FILE:2: unexpected end of data; expected csv with a header"),
        ("[1]", f"FILE:1: 1 is no object; {EXAMPLE}"),
        ('[{"batch_size": 1}\n 2]', "FILE:2: '2' stands between two points; expected ',' or ']'"),
        ('[{"batch_size": 1},\n', "FILE:2: the list has no end; expected ']'"),
        ('[{"batch_size": 1}]\nx', "FILE:2: 'x' stands behind the list; expected the end of the file"),
        ('[{"batch_size": 1},]', "FILE:1: Expecting value, character 20; expected a JSON object"),
        ('{"batch_size": 1}\nabc', "FILE:2: Expecting value, character 1; expected a JSON object"),
        ('{"batch_size": }', "FILE:1: Expecting value, character 16; expected a JSON object"),
        ("[" * 100_000, "FILE:1: nested too deeply; expected a JSON object"),
    ],
)
def test_what_is_no_point(tmp_path, text, message):
    assert error(tmp_path / "points", text) == message


def test_files_that_cannot_be_read(tmp_path):
    for path, message in (
        (tmp_path / "none", "cannot be read: No such file or directory; expected a file of points"),
        (tmp_path, "cannot be read: Is a directory; expected a file of points"),
    ):
        with pytest.raises(ConfigError) as raised:
            read_points(path, SPACE)
        assert str(raised.value) == f"{path} {message}"
    path = tmp_path / "bytes"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError) as raised:
        read_points(str(path), SPACE)
    assert str(raised.value) == f"{path} is no text in UTF-8; expected JSON or csv"
