"""`python -m hpjax.sweep`: trains a study, many trials in one program. Flags in, exit code out."""

import sys
from collections.abc import Sequence

from hpjax import command, flags
from hpjax.config import FIELDS, STUDY_FIELDS

DESCRIPTION = "Trains many trials that differ in what --vary says, in one compiled program, and says which values are best."


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0 (done), 1 (every trial diverged), 2 (bad input), 130 or 143 (interrupted)."""
    full_help = flags.wants_help(argv)
    if full_help is not None:
        sys.stdout.write(flags.help_text("python -m hpjax.sweep", DESCRIPTION, full_help, {**FIELDS, **STUDY_FIELDS}))
        return 0

    def work() -> int:
        config, settings = flags.parse_study(argv)
        # Imported late, so that --help and a misspelt flag answer at once.
        from hpjax import processes
        from hpjax.study.study import run

        study = run(config, settings, leave_at_second=True)
        if processes.is_first():
            command.show(study.summary())
        return 0 if study.best is not None else 1

    return command.run("hpjax.sweep", work)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
