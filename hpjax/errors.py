"""Errors that are meant for the person at the keyboard: one line, what came, what was expected, the nearest name."""

import difflib
from collections.abc import Iterable


class HpjaxError(Exception):
    """Base of every error that a person can mend; the command lines print it as one line and exit with code 2."""


class ConfigError(HpjaxError, ValueError):
    """A setting, or a combination of settings, that cannot be run."""


class DataError(HpjaxError):
    """A data set that is missing, damaged or does not fit its settings."""


class RunFolderError(HpjaxError):
    """A run folder that cannot be used: not a folder, not writable, in use, or made with other settings."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?` for the name in `known` nearest to `name`, or an empty string."""
    names = {one.lower(): one for one in known}
    near = difflib.get_close_matches(str(name).lower(), names, n=1)
    return f"; did you mean '{names[near[0]]}'?" if near else ""


def listed(name: str, known: Iterable[str], words: str = "known:") -> str:
    """Returns `; did you mean 'x'? known: x, y`: the nearest name, if there is one, and all names."""
    names = list(known)
    return f"{did_you_mean(name, names) or ';'} {words} {', '.join(names)}"


def unknown(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Returns the error for a name that no registry entry has."""
    return ConfigError(f"{kind} '{name}' is unknown{listed(name, known)}")
