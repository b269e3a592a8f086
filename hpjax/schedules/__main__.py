"""`python -m hpjax.schedules`: draws a schedule in the terminal or as a picture. Flags in, exit code out."""

import sys
import textwrap
from collections.abc import Sequence

from hpjax import command, flags
from hpjax.config import FIELDS, converted, to_text
from hpjax.errors import ConfigError
from hpjax.registry import REQUIRED
from hpjax.settings.fields import AT_LEAST_1

USAGE = """Draws a schedule: python -m hpjax.schedules --schedule=cosine --train_steps=1000 [--name=value ...]
The flags are those of hpjax.train, and

  --plot=FILE          write a picture (.png, .pdf or .svg) too
  --gallery=FILE       write a picture of every schedule
  --epoch_examples=N   examples in an epoch (default: the training split of --dataset)
  --list               every schedule with its settings

A schedule is a name, whose settings are flags, or text: cosine(end_factor=0.1). A list joins several, each for a length:
  --schedule="linear(start_factor=0.1,end_factor=1):3epochs, constant:50%, cosine(end_factor=0.01)"
Shares (%) are of the whole run. --weight_decay_schedule, --momentum_schedule and --batch_size_schedule are drawn as well.
"""
OWN = ("plot", "gallery", "epoch_examples", "list")


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0, or 2 for bad input."""
    if flags.wants_help(argv) is not None:
        sys.stdout.write(USAGE)
        return 0

    def work() -> int:
        command.show(_run(*_own(argv)))
        return 0

    return command.run("hpjax.schedules", work)


def _run(own: dict[str, str], rest: Sequence[str]) -> str:
    if "list" in own:
        return listing()
    config = flags.parse(rest)
    # Imported late, so that a misspelt flag answers at once.
    from hpjax.schedules import curves, draw, gallery

    if "gallery" in own:
        gallery.gallery(own["gallery"])
        return f"{own['gallery']} written\n"
    examples = own.get("epoch_examples")
    found = curves.curves(config, None if examples is None else converted("epoch_examples", examples, int, AT_LEAST_1))
    shown = draw.in_terminal(found)
    if "plot" in own:
        draw.as_picture(found, own["plot"], config.schedule)
        shown += f"{own['plot']} written\n"
    return shown


def listing() -> str:
    """Returns every schedule with one line and its settings."""
    from hpjax.schedules import SCHEDULES

    lines = []
    for name in SCHEDULES.names():
        what = (SCHEDULES.get(name).__doc__ or "").strip().split("\n")[0]
        settings = []
        for setting, default in SCHEDULES.settings(name).items():
            text = "NEEDED" if default is REQUIRED else "none" if default is None else to_text(setting, default)
            settings.append(f"{setting}={text}")
        lines += [f"{name:<16} {what}"]
        lines += textwrap.wrap(
            " ".join(settings), 100, break_on_hyphens=False, initial_indent=" " * 17, subsequent_indent=" " * 17
        )
    return "\n".join(lines) + "\n"


def _own(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Returns this command's own flags by name, and the rest of the command line."""
    own: dict[str, str] = {}
    rest = list(argv[:1])
    for word in argv[1:]:
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or name not in OWN or name in FIELDS:
            rest.append(word)
        elif name == "list":
            own[name] = ""
        elif not equals or not value:
            raise ConfigError(f"flag '{name}' has no value; expected --{name}=VALUE")
        else:
            own[name] = value
    return own, rest


if __name__ == "__main__":
    sys.exit(main(sys.argv))
