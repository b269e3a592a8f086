"""`python -m hpjax.tune`: the recipe, from a model and data to hyperparameters. Flags in, exit code out."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpjax import command, flags
from hpjax.config import FIELDS, TUNE_FIELDS

if TYPE_CHECKING:
    from hpjax.recipe.recipe import Tuned

DESCRIPTION = "Checks a model and its data, finds good hyperparameters within a budget, and writes a report that shows why."


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0 (done), 1 (a step failed), 2 (bad input), 130 or 143 (interrupted)."""
    begun = time.monotonic()
    full_help = flags.wants_help(argv)
    if full_help is not None:
        sys.stdout.write(flags.help_text("python -m hpjax.tune", DESCRIPTION, full_help, {**FIELDS, **TUNE_FIELDS}))
        return 0

    def work() -> int:
        config, settings = flags.parse_tune(argv)
        # Imported late, so that --help and a misspelt flag answer at once.
        from hpjax.recipe.recipe import run

        tuned = run(config, settings, begun)
        command.show(summary(tuned))
        return 0 if tuned.stopped_by is None else 1

    return command.run("hpjax.tune", work, "interrupted; the same command goes on")


def summary(tuned: "Tuned") -> str:
    """Returns the lines that end a recipe on the screen."""
    from hpjax.report.words import headline

    return "\n".join([*headline(tuned), f"report: {tuned.report}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv))
