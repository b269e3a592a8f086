"""`python -m hpjax.inspection`: looks inside a run at its chosen checkpoint. Flags in, exit code out."""

import argparse
import sys
from collections.abc import Sequence

from hpjax import command
from hpjax import config as config_lib
from hpjax.config import FIELDS
from hpjax.errors import ConfigError
from hpjax.inspection.settings import DEFAULTS


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0 (done), 2 (bad input) or 130 (interrupted)."""

    def work() -> int:
        given = _parse(argv[1:])
        # Imported late, so that --help and a misspelt flag answer at once.
        from hpjax.inspection import table
        from hpjax.inspection.finished import of_run

        names = config_lib.convert("inspect", given.inspect)
        settings = {name: getattr(given, name) for name in DEFAULTS if getattr(given, name) is not None}
        step = None if given.step is None else config_lib.converted("step", given.step, int)
        found = of_run(given.run_dir, names, step, **settings)
        if given.plot is not None:
            table.draw(found, given.plot)
        command.show(table.text(found))
        return 0

    return command.run("hpjax.inspection", work)


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = command.Parser(
        "python -m hpjax.inspection",
        description="Looks inside a run at its chosen checkpoint; changes nothing. Exit codes: 0 done, 2 bad input.",
    )
    parser.add_argument("--run_dir", metavar="FOLDER", help="the run's folder")
    parser.add_argument("--inspect", metavar="NAMES", help=FIELDS["inspect"].metadata["help"])
    parser.add_argument("--step", metavar="STEP", help="the checkpoint of another step, if it is kept")
    parser.add_argument("--plot", metavar="FILE", help="draw norms and eigenvalues, as .png, .svg or .pdf")
    for name in DEFAULTS:
        parser.add_argument(f"--{name}", metavar="NUMBER", help=FIELDS[name].metadata["help"])
    given = parser.read(words)
    for name in ("run_dir", "inspect"):
        if getattr(given, name) is None:
            raise ConfigError(f"flag '{name}' is not given; expected --{name}=VALUE; --help explains it")
    return given


if __name__ == "__main__":
    sys.exit(main(sys.argv))
