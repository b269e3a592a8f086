"""Schedules as text: `cosine`, `cosine(end_factor=0.1)`, `linear(start_factor=0.1,end_factor=1):3epochs, constant:50%, rex`.

A list of parts, separated by commas, each with its settings in parentheses and its length after a colon; the last part may
go without a length and has the rest. A setting of several values keeps its commas: `multistep(milestones=30%,60%)`. `%` is
always a share of the run that the schedules were written for, warmup included. A setting that is not in the parentheses is
the flag's, else the schedule's default.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from hpjax import durations
from hpjax.config import FIELDS, convert, converted, to_text
from hpjax.errors import ConfigError, listed
from hpjax.registry import REQUIRED
from hpjax.schedules.registry import SCHEDULES

MOST_PARTS = 8
"""Parts that a joined list may have."""


class Part(NamedTuple):
    """One schedule of a list.

    Attributes:
      name: its name in `SCHEDULES`.
      settings: values by name, of the settings' types.
      length: its length as text; None: the rest.
    """

    name: str
    settings: dict[str, Any]
    length: str | None


def is_plain(text: str) -> bool:
    """Returns whether a text is just a name, whose settings are flags."""
    return not any(mark in text for mark in "(),") and _name_and_length(text)[1] is None


def parse(quantity: str, text: str) -> list[Part]:
    """Returns the parts of a text, with those settings that it holds.

    Args:
      quantity: the flag that the text is of, for messages.
      text: the text.

    Raises:
      ConfigError: it cannot be read, an unknown name, a setting that the schedule does not take or that is out of its
        domain, or too many parts.
    """
    parts = [_part(quantity, piece) for piece in _split(quantity, text)]
    if len(parts) > MOST_PARTS:
        raise ConfigError(f"{quantity} has {len(parts)} parts; expected at most {MOST_PARTS}")
    for part in parts[:-1]:
        if part.length is None:
            raise ConfigError(
                f"{quantity}: '{part.name}' has no length; only the last part may go without: {part.name}:LENGTH"
            )
    return parts


def names(quantity: str, text: str) -> tuple[str, ...]:
    """Returns the names of a text's parts; raises ConfigError where it cannot be read."""
    return tuple(part.name for part in parse(quantity, text))


def complete(quantity: str, parts: list[Part], given: Mapping[str, Any]) -> list[Part]:
    """Returns the parts with every setting: the text's own, else that of `given`, else the default.

    Args:
      quantity: the flag that the parts are of, for messages.
      parts: what `parse` gave.
      given: values of settings by name, None for those that are not given.

    Raises:
      ConfigError: a setting that has no default is not given.
    """
    return [part._replace(settings=_completed(quantity, part, given)) for part in parts]


def render(parts: list[Part]) -> str:
    """Returns parts as text that `parse` gives back, settings that are None left out."""
    texts = []
    for name, settings, length in parts:
        inside = ",".join(f"{key}={to_text(key, value)}" for key, value in settings.items() if value is not None)
        texts.append(name + (f"({inside})" if inside else "") + (f":{length}" if length else ""))
    return ", ".join(texts)


def value_of(name: str, setting: str, value: Any) -> Any:
    """Returns a setting's value, or its text, as its type; raises ConfigError out of its domain."""
    if setting in FIELDS:
        return convert(setting, value)
    return converted(f"schedule '{name}': {setting}", value, type(SCHEDULES.own(name)[setting]))


def _completed(quantity: str, part: Part, given: Mapping[str, Any]) -> dict[str, Any]:
    result = {}
    for setting, default in SCHEDULES.settings(part.name).items():
        value = part.settings.get(setting)
        value = given.get(setting) if value is None else value
        if value is None and default is REQUIRED:
            how = f"--{setting}=VALUE" if quantity == "schedule" else f"{part.name}({setting}=VALUE)"
            raise ConfigError(f"{setting} is not set; schedule '{part.name}' needs it: give {how}")
        value = default if value is None else value
        result[setting] = None if value is None else value_of(part.name, setting, value)
    return result


def _split(quantity: str, text: str) -> list[str]:
    """Returns the pieces between the commas that are in no parentheses."""
    pieces, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth not in (0, 1):
            break
        if character == "," and not depth:
            pieces.append("")
        else:
            pieces[-1] += character
    if depth:
        raise ConfigError(f"{quantity} is '{text}'; expected parentheses in pairs: name(setting=value, ...)")
    if any(not piece.strip() for piece in pieces):
        raise ConfigError(f"{quantity} is '{text}'; expected schedules separated by commas, none empty")
    return [piece.strip() for piece in pieces]


def _part(quantity: str, piece: str) -> Part:
    if "(" not in piece:
        name, length = _name_and_length(piece)
        return Part(name, _settings(quantity, name, ""), _length(quantity, length))
    match = re.fullmatch(r"([^()\s]+)\s*\((.*)\)\s*(?::(.*))?", piece)
    if not match:
        raise ConfigError(f"{quantity} has '{piece}'; expected name(setting=value, ...) or name(...):LENGTH")
    name, inside, length = match.groups()
    return Part(name, _settings(quantity, name, inside), _length(quantity, length))


def _name_and_length(piece: str) -> tuple[str, str | None]:
    """Returns what stands before and after the last colon, if that is a length and not a plug-in's function."""
    name, colon, last = piece.rpartition(":")
    if not colon or last.strip()[:1].isalpha() or last.strip()[:1] == "_" or not last.strip():
        return piece.strip(), None
    return name.strip(), last.strip()


def _length(quantity: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        durations.parse(text)
    except ConfigError as error:
        raise ConfigError(f"{quantity}: {error}") from None
    return text.strip().replace(" ", "")


def _settings(quantity: str, name: str, inside: str) -> dict[str, Any]:
    known = SCHEDULES.settings(name)
    texts: dict[str, str] = {}
    for word in inside.split(",") if inside.strip() else []:
        setting, equals, value = (text.strip() for text in word.partition("="))
        if not equals:
            # A further value of the setting before.
            if not texts:
                raise ConfigError(f"{quantity}: schedule '{name}' has '{setting}'; expected setting=value")
            texts[list(texts)[-1]] += f",{setting}"
            continue
        if setting not in known:
            takes = listed(setting, known, "it takes:") if known else "; it takes none"
            raise ConfigError(f"{quantity}: schedule '{name}' takes no '{setting}'{takes}")
        if setting in texts:
            raise ConfigError(f"{quantity}: schedule '{name}' has {setting} twice")
        texts[setting] = value
    return {setting: value_of(name, setting, value) for setting, value in texts.items()}
