"""What the command lines share: errors in one line, exit codes, an answer that nobody may be reading any more."""

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from hpjax.errors import ConfigError, HpjaxError, did_you_mean

BAD_INPUT, INTERRUPTED = 2, 130
"""Exit codes."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line as hpjax does: raises ConfigError."""

    def __init__(self, program: str, description: str):
        super().__init__(program, description=description, allow_abbrev=False)

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Returns the flags by name; raises ConfigError for a word that is none of them."""
        given, rest = self.parse_known_args(words)
        if not rest:
            return given
        name = rest[0].lstrip("-").partition("=")[0]
        if not rest[0].startswith("-"):
            raise ConfigError(f"argument '{rest[0]}' is no flag; expected --name=value")
        known = [flag[2:] for flag in self._option_string_actions if flag.startswith("--")]
        raise ConfigError(f"flag '{name}' is unknown{did_you_mean(name, known) or '; --help lists all flags'}")

    def error(self, message: str) -> NoReturn:
        """Raises the message as a ConfigError."""
        found = re.fullmatch(r"argument --(\w+): expected one argument", message)
        raise ConfigError(f"flag '{found[1]}' has no value; expected --{found[1]}=VALUE" if found else message)


def run(program: str, work: Callable[[], int], interrupted: str = "") -> int:
    """Returns the exit code of a command line: that of `work`, 2 for bad input, 130 for Ctrl-C.

    Args:
      program: its name, for messages: `hpjax.train`.
      work: does the work and returns an exit code.
      interrupted: a line for Ctrl-C; empty for none.
    """
    try:
        return work()
    except HpjaxError as error:
        return _refuse(program, " ".join(str(error).split()))
    except OSError as error:
        where = f"'{error.filename}': " if error.filename else ""
        reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error)).lower()
        return _refuse(program, where + reason)
    except KeyboardInterrupt:
        if interrupted:
            sys.stderr.write(f"{program}: {interrupted}\n")
        return INTERRUPTED


def show(text: str) -> None:
    """Prints an answer, unless nobody reads any more."""
    try:
        print(text, end="" if text.endswith("\n") else "\n", flush=True)
    except OSError:
        # Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(program: str, reason: str) -> int:
    sys.stderr.write(f"{program}: {reason}\n")
    return BAD_INPUT
