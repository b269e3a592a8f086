"""The flags, generated from `Config`, and flagfiles. The only module that knows of flags; the library never reads them."""

import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from absl import flags as absl_flags

from hpjax import config as config_lib
from hpjax.config import FIELDS, GROUPS, NOT_PART_OF_A_RUN, Config
from hpjax.errors import ConfigError


class _Parser(absl_flags.ArgumentParser):
    """Parses one setting's text with the setting's own converter."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def parse(self, argument: str) -> object:
        config_lib.convert(self.name, argument)
        return argument

    def flag_type(self) -> str:
        return "setting"


def define() -> absl_flags.FlagValues:
    """Returns new flags, one for each setting of `Config`; a flag that is not given is None."""
    values = absl_flags.FlagValues()
    for name, field in FIELDS.items():
        if config_lib.kind(name) is bool:
            absl_flags.DEFINE_boolean(name, None, field.metadata["help"], flag_values=values)
        else:
            absl_flags.DEFINE(_Parser(name), name, None, field.metadata["help"], flag_values=values)
    return values


def parse(argv: Sequence[str]) -> Config:
    """Returns the config that a command line gives.

    Args:
      argv: the program's name, then flags; `--flagfile=PATH` reads flags from a file.

    Raises:
      ConfigError: an unknown flag, a bad value, an argument that is no flag, or a flagfile that cannot be read.
    """
    values = define()
    try:
        rest = values(list(argv))
    except absl_flags.Error as error:
        raise ConfigError(_one_line(error)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"a flagfile is not a text file: {error}") from None
    if len(rest) > 1:
        raise ConfigError(f"argument '{rest[1]}' is no flag; expected --name=value")
    given: dict[str, Any] = {name: values[name].value for name in FIELDS if values[name].value is not None}
    return Config(**given)


def _one_line(error: Exception) -> str:
    """Returns absl's message in one line, without what it repeats of ours."""
    text = " ".join(str(error).split())
    if isinstance(error, absl_flags.IllegalFlagValueError):
        text = text.partition(": ")[2] or text
    if text.startswith("Unknown command line flag "):
        text = text.replace("Unknown command line flag ", "flag ", 1).replace(
            "'. Did you mean", "' is unknown; did you mean"
        )
    return text


def to_flagfile(config: Config, header: Sequence[str] = ()) -> str:
    """Returns a resolved config as a flagfile: all but the settings that are not part of a run.

    Args:
      config: the config; a setting that is None is written as a comment.
      header: lines of comment at the top.
    """
    lines = [f"# {line}" for line in header]
    for name in FIELDS:
        if name in GROUPS:
            lines += ["", f"# {GROUPS[name]}"]
        if name in NOT_PART_OF_A_RUN:
            continue
        value = getattr(config, name)
        lines.append(f"# {name}: not used" if value is None else f"--{name}={config_lib.to_text(name, value)}")
    return "\n".join(lines) + "\n"


def help_text(program: str, description: str, full: bool) -> str:
    """Returns the help: the main flags in groups, or all of them."""
    lines = [description, "", f"usage: {program} [--flagfile=FILE] [--name=value ...]", ""]
    for name, field in FIELDS.items():
        if name in GROUPS:
            lines += ["", GROUPS[name] + ":"]
        if full or field.metadata["main"]:
            default = "" if field.default is None else f" (default: {config_lib.to_text(name, field.default)})"
            text = field.metadata["help"] + default
            lines += textwrap.wrap(text, 110, initial_indent=f"  --{name:<22} ", subsequent_indent=" " * 27)
    lines += ["", f"--help shows the main flags, --helpfull all. A later flag overrides an earlier one; {program}"]
    lines[-1] += " exits with 2 for bad input, 1 if the loss diverged, 130 or 143 if it was interrupted."
    return "\n".join(lines) + "\n"


def wants_help(argv: Sequence[str]) -> bool | None:
    """Returns True for `--helpfull`, False for `--help`, None for neither."""
    words = {word.lstrip("-") for word in argv[1:] if word.startswith("-")}
    if "helpfull" in words:
        return True
    return False if words & {"help", "h", "helpshort"} else None


def program_name(module: str) -> str:
    """Returns how a person starts a module: `python -m hpjax.train` for example."""
    return f"{'python' if 'python' in sys.executable else sys.executable} -m {module}"
