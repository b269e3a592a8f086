"""Files of a person's own: where they are looked for, tables of comma-separated values, numbers that float32 can hold."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpjax.errors import DataError

_MISSING = ("", "na", "n/a", "nan", "null", "none", "?")

# Share of a column's range by which rounding to float32 may move a value.
_ROUNDING = 1e-3


def find(dataset: str, names: Sequence[str | os.PathLike[str]], data_dir: str | os.PathLike[str] | None, hint: str) -> Path:
    """Returns the first of some files that exists: as named, seen from here, or in the data folder.

    Args:
      dataset: what messages call the data set.
      names: paths, absolute or not.
      data_dir: the data folder; None takes the environment's HPJAX_DATA_DIR, if it has one.
      hint: what the file is and where it is had.

    Raises:
      DataError: there is no such file; the message says where it was looked for.
    """
    data_dir = data_dir or os.environ.get("HPJAX_DATA_DIR")
    places = [Path()] if data_dir is None else [Path(), Path(data_dir).expanduser()]
    # A path that is absolute stays itself when joined.
    tried = list(dict.fromkeys(Path(os.path.abspath(place / Path(name).expanduser())) for place in places for name in names))
    for path in tried:
        if path.is_file():
            return path
    folders = [str(path) for path in tried if path.is_dir()]
    if folders:
        raise DataError(f"dataset '{dataset}': '{folders[0]}' is a folder; {hint}")
    where = " or ".join(f"'{path}'" for path in tried)
    advice = "" if data_dir else "; --data_dir=FOLDER or HPJAX_DATA_DIR names another place to look"
    raise DataError(f"dataset '{dataset}': no file {where}; {hint}{advice}")


def read_bytes(path: Path) -> bytes:
    """Returns a file's content; raises DataError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"file '{path}' cannot be read: {error.strerror}") from None


def decoded(content: bytes, path: Path, advice: str) -> str:
    """Returns a file's content as text; raises DataError with the place of the first byte that is not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"file '{path}' is no UTF-8 text: byte 0x{content[error.start]:02x} at {error.start}; {advice}"
        ) from None


def read_csv(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Returns a table of comma-separated values, as texts without spaces at their ends.

    Args:
      path: the file: UTF-8, its first line the columns' names. Empty lines are left out.

    Returns:
      The columns' names, the rows, and the line of the file that each row ends on.

    Raises:
      DataError: the file cannot be read, is no such table, or has no rows.
    """
    text = decoded(read_bytes(path), path, "expected comma-separated values in UTF-8").removeprefix("\ufeff")
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"file '{path}', line {reader.line_num}: {error}; expected comma-separated values") from None
    if not rows:
        raise DataError(f"file '{path}' is empty; expected a line of column names, then the rows")
    names = rows[0]
    _check_names(path, names)
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if len(row) != len(names):
            raise DataError(
                f"file '{path}', line {line}: {len(row)} values; expected {len(names)}, one for each column name"
            )
    if len(rows) == 1:
        raise DataError(f"file '{path}' has column names and no rows; expected at least one")
    return names, rows[1:], lines[1:]


def _check_names(path: Path, names: list[str]) -> None:
    if len(names) < 2:
        other = next((word for mark, word in ((";", "semicolons"), ("\t", "tabs")) if mark in names[0]), None)
        found = f"its first line has {other} and no comma" if other else "it has one column"
        raise DataError(f"file '{path}': {found}; expected columns separated by commas, features and a target")
    if all(is_number(name) for name in names):
        raise DataError(f"file '{path}': the first line holds numbers ({', '.join(names[:3])}, ...); expected column names")
    for column, name in enumerate(names, 1):
        if not name:
            raise DataError(f"file '{path}': column {column} has no name; expected one in the first line")
        if names.index(name) != column - 1:
            raise DataError(f"file '{path}': two columns are named '{name}'; expected different names")


def is_number(text: str) -> bool:
    """Returns whether a text spells a number, nan and infinity included."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_missing(text: str) -> bool:
    """Returns whether a text stands for a value that is missing."""
    return text.lower() in _MISSING


def column(path: Path, name: str, texts: Sequence[str], lines: Sequence[int], advice: str) -> np.ndarray:
    """Returns a column's numbers: float64 [rows].

    Args:
      path: the file, for messages.
      name: the column's name.
      texts: its values.
      lines: the lines that they stand on.
      advice: what to do about a text that is no number.

    Raises:
      DataError: a value is missing, is no number, or is not finite; the message names the first one's line.
    """
    try:
        values = np.array([float(text) for text in texts], np.float64)
        if np.isfinite(values).all():
            return values
    except ValueError:
        pass
    for text, line in zip(texts, lines, strict=True):
        where = f"file '{path}', line {line}: column '{name}'"
        if is_missing(text):
            raise DataError(f"{where} has no value ('{text}'); expected a number: fill it in or leave the row out")
        if not is_number(text):
            raise DataError(f"{where} has '{text}'; expected a number: {advice}")
        if not np.isfinite(float(text)):
            raise DataError(f"{where} has '{text}'; expected a finite number")
    raise AssertionError


def as_float32(values: np.ndarray, what: str, names: Sequence[str] = ()) -> np.ndarray:
    """Returns numbers as float32.

    Args:
      values: numbers [examples, ..., features].
      what: what messages call them.
      names: the features' names.

    Raises:
      DataError: a number is beyond float32, or rounding moves one by more than a thousandth of its feature's range, as
        with times in seconds since 1970 of which all lie in an hour.
    """
    with np.errstate(over="ignore"):
        result = values.astype(np.float32)
    if values.dtype in (np.float16, np.float32) or not values.size or not np.isfinite(values).all():
        return result
    axes = tuple(range(values.ndim - 1))
    low, high = values.min(axis=axes), values.max(axis=axes)
    moved = np.abs(result - values.astype(np.float64)).max(axis=axes)
    # A constant's rounding moves nothing that a model could learn from.
    wrong = np.flatnonzero((moved > _ROUNDING * (high.astype(np.float64) - low)) & (high > low) | ~np.isfinite(moved))
    if wrong.size:
        feature = wrong[0]
        called = f"'{names[feature]}'" if names else f"{feature}"
        raise DataError(
            f"{what}: feature {called} goes from {low[feature]!s} to {high[feature]!s}, which float32 cannot tell apart; "
            "expected values near 0: subtract a constant and divide by a scale"
        )
    return result
