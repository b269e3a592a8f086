"""One run on many processes: who they are, how they meet, what one tells the others."""

import contextlib
import os
from collections.abc import Iterator

from hpjax.config import Config
from hpjax.processes.team import ALONE, Alone, Team

__all__ = ["ALONE", "Alone", "Team", "is_first", "joined"]

_joined: list[Team] = []
"""The team that this process belongs to, for as long as it lives: JAX, too, begins it once."""


@contextlib.contextmanager
def joined(config: Config) -> Iterator[Alone]:
    """Makes this process one of those that share a run, where there are several; tells them of an error that ends it.

    Args:
      config: see `detect.place`.

    Raises:
      ConfigError: they do not come together; the same line in all that are there.
    """
    try:
        yield _joined[0] if _joined else _join(config)
    except BaseException as error:
        for met in _joined:
            met.fail(error)
        raise


def is_first() -> bool:
    """Returns whether this process is process 0 of its run, or alone."""
    return not _joined or _joined[0].first


def _join(config: Config) -> Alone:
    from hpjax.processes.detect import place

    mine = place(config, os.environ)
    if mine is None or mine.number == 1:
        return ALONE
    from hpjax.processes import start
    from hpjax.processes.meeting import meet

    met = meet(mine, config.join_timeout)
    _joined.append(Team(mine, met))
    start.start(mine, met, config.join_timeout)
    return _joined[0]
