"""Known points of a space from a file: a JSON list of objects, JSON lines, or csv with a header."""

import csv
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from hpjax.config import convert
from hpjax.errors import ConfigError, listed
from hpjax.study.space.settings import typed
from hpjax.study.space.space import Space

Row = tuple[int, list[tuple[str, Any]]]
"""A line's number, from 1, and its names and values."""


def read_points(path: str | os.PathLike[str], space: Space) -> list[dict[str, Any]]:
    """Returns the hyperparameter settings that a file lists.

    Args:
      path: a JSON list of objects, objects one after another (JSON lines), or csv with a header; which, its first
        character says. A setting that is not there, or whose cell is empty, is not in the point: it has the base's value.
      space: what is varied.

    Returns:
      Values by name for each point, in the order of the file and of `space.names`, as `Config` holds them. They need
      not lie in the range that is searched.

    Raises:
      ConfigError: the file cannot be read, or a line holds what is no point: one line with the file and the line.
    """

    def refuse(line: int, message: str) -> ConfigError:
        return ConfigError(f"{os.fspath(path)}:{line}: {message}")

    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError:
        raise ConfigError(f"{os.fspath(path)} is no text in UTF-8; expected JSON or csv") from None
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)} cannot be read: {error.strerror}; expected a file of points") from None
    rows = _json(text, refuse) if text.lstrip()[:1] in ("[", "{") else _csv(text, refuse)
    points = [_point(line, pairs, space, refuse) for line, pairs in rows]
    if not points:
        raise ConfigError(f"{os.fspath(path)} holds no points; expected a JSON list of objects, JSON lines or csv")
    return points


Refuse = Callable[[int, str], ConfigError]


def _point(line: int, pairs: list[tuple[str, Any]], space: Space, refuse: Refuse) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in space.replicated:
            raise refuse(line, f"'{name}' repeats every point; expected hyperparameters: {', '.join(space.names)}")
        if name not in space.names:
            raise refuse(line, f"setting '{name}' is not varied{listed(name, space.names, 'varied:')}")
        if name in found:
            raise refuse(line, f"'{name}' is there twice; expected it once")
        if isinstance(value, _Pairs):
            raise refuse(line, f"{name} is an object; expected a number, a text, true, false or null")
        try:
            found[name] = _value(name, value)
        except ConfigError as error:
            raise refuse(line, str(error)) from None
    return {name: found[name] for name in space.names if name in found}


def _value(name: str, value: Any) -> Any:
    if value == "none":
        # As in the language of --vary.
        return typed(name, None)
    # A list of numbers is what JSON has for a setting of several.
    return convert(name, tuple(value) if isinstance(value, list) else value)


def _json(text: str, refuse: Refuse) -> Iterator[Row]:
    """Yields the objects of a list, or those that stand one after another."""
    decoder, at, inside = json.JSONDecoder(object_pairs_hook=_Pairs), 0, False
    first = True

    def skip(at: int) -> int:
        while at < len(text) and text[at].isspace():
            at += 1
        return at

    def line() -> int:
        return text.count("\n", 0, at) + 1

    at = skip(0)
    if text[at] == "[":
        inside, at = True, skip(at + 1)
    while at < len(text) and not (inside and text[at] == "]"):
        if inside and not first:
            if text[at] != ",":
                raise refuse(line(), f"'{text[at]}' stands between two points; expected ',' or ']'")
            at = skip(at + 1)
            if at == len(text):
                break
        try:
            found, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError):
                at = error.pos
                raise refuse(line(), f"{error.msg}, character {error.colno}; expected a JSON object") from None
            raise refuse(line(), "nested too deeply; expected a JSON object") from None
        if not isinstance(found, _Pairs):
            raise refuse(line(), f'{json.dumps(found)[:40]} is no object; expected for example {{"learning_rate": 0.1}}')
        yield line(), list(found)
        at, first = skip(end), False
    if inside and at == len(text):
        raise refuse(line(), "the list has no end; expected ']'")
    if inside and skip(at + 1) < len(text):
        at = skip(at + 1)
        raise refuse(line(), f"'{text[at]}' stands behind the list; expected the end of the file")


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON with every name, those too that are there twice."""


def _csv(text: str, refuse: Refuse) -> Iterator[Row]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True, skipinitialspace=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                continue
            if len(cells) != len(header):
                raise refuse(reader.line_num, f"{len(cells)} cells; expected {len(header)}, as in the header")
            pairs = zip(header, (cell.strip() for cell in cells), strict=True)
            yield reader.line_num, [(name, cell) for name, cell in pairs if cell]
    except csv.Error as error:
        raise refuse(reader.line_num, f"{error}; expected csv with a header") from None
