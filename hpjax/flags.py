"""The flags, generated from `Config`, and flagfiles. The only module that knows of flags; the library never reads them."""

import dataclasses
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from hpjax import config as config_lib
from hpjax.config import (
    FIELDS,
    NOT_PART_OF_A_STUDY,
    STUDY_FIELDS,
    STUDY_GROUPS,
    TUNE_FIELDS,
    TUNE_GROUPS,
    Config,
    StudyConfig,
    TuneConfig,
)
from hpjax.errors import ConfigError, did_you_mean
from hpjax.settings.fields import Lines

Fields = Mapping[str, dataclasses.Field[Any]]


class _Parser(absl_flags.ArgumentParser):
    """Parses one setting's text with the setting's own converter."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def parse(self, argument: str) -> object:
        # A shell takes quotes away; in a flagfile they would become part of the value.
        if len(argument) > 1 and argument[0] == argument[-1] and argument[0] in "'\"":
            raise ConfigError(f"{self.name} is {argument}; expected a value without quotes")
        config_lib.convert(self.name, argument)
        return argument

    def flag_type(self) -> str:
        return "setting"


def define(fields: Fields = FIELDS) -> absl_flags.FlagValues:
    """Returns new flags, one for each setting; a flag that is not given is None."""
    values = absl_flags.FlagValues()
    for name, field in fields.items():
        if config_lib.kind(name) is Lines:
            several: Any = absl_flags.MultiFlag(_Parser(name), None, name, None, field.metadata["help"])
            absl_flags.DEFINE_flag(several, values)
        elif config_lib.kind(name) is bool:
            flag = absl_flags.BooleanFlag(name, None, field.metadata["help"])
            flag.parser = _Parser(name)
            absl_flags.DEFINE_flag(flag, values)
        else:
            absl_flags.DEFINE(_Parser(name), name, None, field.metadata["help"], flag_values=values)
    return values


def parse(argv: Sequence[str]) -> Config:
    """Returns the config that a command line gives.

    Args:
      argv: the program's name, then flags. `--flagfile=PATH` stands for the flags in a file, one a line, lines that begin
        with # or // left out; a flagfile may name others. A later flag overrides an earlier one.

    Raises:
      ConfigError: an unknown flag, a bad value, an argument that is no flag, or a flagfile that cannot be read.
    """
    return Config(**_given(argv, FIELDS))


def parse_study(argv: Sequence[str]) -> tuple[Config, StudyConfig]:
    """Returns the config of the trials and that of the study that a command line gives; see `parse`."""
    given = _given(argv, {**FIELDS, **STUDY_FIELDS})
    of_study = {name: given.pop(name) for name in STUDY_FIELDS if name in given}
    return Config(**given), StudyConfig(**of_study)


def parse_tune(argv: Sequence[str]) -> tuple[Config, TuneConfig]:
    """Returns the config of the trials and that of the recipe that a command line gives; see `parse`."""
    given = _given(argv, {**FIELDS, **TUNE_FIELDS})
    of_recipe = {name: given.pop(name) for name in TUNE_FIELDS if name in given}
    return Config(**given), TuneConfig(**of_recipe)


def _given(argv: Sequence[str], fields: Fields) -> dict[str, Any]:
    values = define(fields)
    _read(values, list(argv[1:]), ())
    return {name: values[name].value for name in fields if values[name].value is not None}


def _read(values: absl_flags.FlagValues, words: Sequence[str], inside: tuple[Path, ...]) -> None:
    """Takes in the words of a command line, or of one line of the flagfiles `inside`, in their order."""
    before: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, path = word.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            before.append(word)
            continue
        _take(values, before)
        before = []
        _read_file(values, path if equals else next(rest, ""), inside)
    _take(values, before)


def _read_file(values: absl_flags.FlagValues, name: str, inside: tuple[Path, ...]) -> None:
    if not name:
        raise ConfigError("flag 'flagfile' has no value; expected --flagfile=PATH")
    path = Path(name).expanduser()
    if path in inside:
        raise ConfigError(f"flagfile '{path}' includes itself")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"flagfile '{path}' cannot be read: {reason}; expected a file of lines --name=value") from None
    except UnicodeDecodeError:
        raise ConfigError(f"flagfile '{path}' is no text file; expected lines --name=value") from None
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith(("#", "//")):
            try:
                _read(values, [line], (*inside, path))
            except ConfigError as error:
                raise ConfigError(f"{path}:{number}: {error}") from None


def _take(values: absl_flags.FlagValues, words: Sequence[str]) -> None:
    """Parses words that name no flagfile, and explains what is wrong with them."""
    if any(word.lstrip("-").partition("=")[0] == "undefok" for word in words if word.startswith("-")):
        raise ConfigError("flag 'undefok' is not for hpjax, which refuses unknown flags; --helpfull lists all flags")
    try:
        rest = values(["", *words])
    except absl_flags.UnrecognizedFlagError as error:
        near = did_you_mean(error.flagname, [*values, "flagfile"]) or "; --helpfull lists all flags"
        raise ConfigError(f"flag '{error.flagname}' is unknown{near}") from None
    except absl_flags.IllegalFlagValueError as error:
        # absl puts "flag --name=value: " before the message of `_Parser`, which says as much.
        raise ConfigError(str(error).partition(": ")[2] or str(error)) from None
    except (absl_flags.Error, ValueError) as error:
        raise ConfigError(_explained(str(error))) from None
    if len(rest) > 1:
        raise ConfigError(f"argument '{rest[1]}' is no flag; expected --name=value")


def _explained(message: str) -> str:
    """Returns absl's message about a flag that has no value or one too many in our words; another as it is."""
    if found := re.fullmatch(r"Missing value for flag --?(\w+)", message):
        return f"flag '{found[1]}' has no value; expected --{found[1]}=VALUE"
    if found := re.fullmatch(r"--?no(\w+)=.* does not take an argument", message):
        return f"flag 'no{found[1]}' takes no value; expected --no{found[1]} or --{found[1]}=true"
    return message


def to_flagfile(config: Config, header: Sequence[str] = (), study: StudyConfig | TuneConfig | None = None) -> str:
    """Returns a resolved config as a flagfile: all but the settings that are not part of a run.

    Args:
      config: the config; a setting that is None is written as a comment.
      header: lines of comment at the top.
      study: the study's or the recipe's settings, where it is the flagfile of one.
    """
    lines = [f"# {line}" for line in header]
    own = () if study is None else TUNE_FIELDS if isinstance(study, TuneConfig) else STUDY_FIELDS
    groups = TUNE_GROUPS if isinstance(study, TuneConfig) else STUDY_GROUPS
    for name in (*FIELDS, *own):
        if name in groups:
            lines += ["", f"# {groups[name]}"]
        if name in NOT_PART_OF_A_STUDY:
            continue
        value = getattr(config if name in FIELDS else study, name)
        if config_lib.kind(name) is Lines:
            lines += [f"--{name}={text}" for text in value]
            continue
        lines.append(f"# {name}: not used" if value is None else f"--{name}={config_lib.to_text(name, value)}")
    return "\n".join(lines) + "\n"


def help_text(program: str, description: str, full: bool, fields: Fields = FIELDS) -> str:
    """Returns the help: the main flags in groups, or all of them."""
    lines = [description, "", f"usage: {program} [--flagfile=FILE] [--name=value ...]"]
    group, groups = "", TUNE_GROUPS if "budget" in fields else STUDY_GROUPS
    for name, field in fields.items():
        group = f"{groups[name]}:" if name in groups else group
        if full or field.metadata["main"]:
            lines += ["", group] if group else []
            group = ""
            default = "" if field.default is None else f" (default: {config_lib.to_text(name, field.default)})"
            text = field.metadata["help"] + default
            lines += textwrap.wrap(text, 110, initial_indent=f"  --{name:<22} ", subsequent_indent=" " * 27)
    lines += ["", "--help shows the main flags, --helpfull all. A later flag overrides an earlier one."]
    lines += ["Exit codes: 0 done, 1 the loss diverged, 2 bad input, 130 and 143 interrupted and saved."]
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
