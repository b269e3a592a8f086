"""Words that a setting may be where they are names of parts: a condition that compares it with another never holds."""

from collections.abc import Collection
from typing import Any

from hpjax import resolve
from hpjax.errors import ConfigError
from hpjax.models import INITIALIZERS
from hpjax.ops import ACTIVATIONS
from hpjax.schedules import text
from hpjax.scheduling import SCHEDULED


def unknown(name: str, value: Any) -> tuple[str, Collection[str]] | None:
    """Returns the word of a value that names no part of the setting's kind, and the names that there are; None if none does.

    Args:
      name: a setting.
      value: what it is compared with, of its type. A plug-in, with a colon in its name, is not looked for.
    """
    known = _known(name)
    if known is None or value is None:
        return None
    words = value if isinstance(value, tuple) else (value,)
    if name in SCHEDULED:
        try:
            text.parse(name, value)
        except ConfigError:
            # It may be another part of a schedule's text than its name that cannot be read.
            return value, known
        return None
    return next(((word, known) for word in words if word not in known and ":" not in word), None)


def _known(name: str) -> Collection[str] | None:
    if name in SCHEDULED:
        return resolve.PARTS["schedule"].names()
    parts: dict[str, Collection[str]] = {"activation": ACTIVATIONS, "init": INITIALIZERS}
    return resolve.PARTS[name].names() if name in resolve.PARTS else parts.get(name)
