"""`python -m hpjax.ops`: says what the operators run on, and checks them. Flags in, exit code out."""

import argparse
import os
import sys
from collections.abc import Sequence

from hpjax import command
from hpjax.errors import ConfigError, did_you_mean

_MODES = ("auto", "on", "off")


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0 (all is sound), 1 (an operator is not), 2 (bad input) or 130 (interrupted)."""

    def work() -> int:
        asked = _parse(argv[1:]).native
        # JAX takes a second to start, which a wrong flag or --help need not wait for.
        from hpjax import devices
        from hpjax.ops import check, native
        from hpjax.resolve import native_mode

        mode = native_mode(asked)
        devices.found()
        command.show(native.described(mode))
        others = ", ".join(native.available())
        if others:
            command.show(f"this processor runs those for: {others}")
        with native.scope(mode == "on"):
            usable = native.used()
        rows = check.measured(check.cases(), usable)
        command.show(check.table(rows))
        wrong = [row.case.operator for row in rows if not row.sound]
        bounds = f"{check.BOUND:.0e}, of bf16 {check.BF16_BOUND:.0e}"
        command.show(f"wrong: {', '.join(wrong)}" if wrong else f"sound: every error is below {bounds}")
        return 1 if wrong else 0

    return command.run("hpjax.ops", work)


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = command.Parser(
        "python -m hpjax.ops",
        description="Says which implementation of the operators is in use and why, and checks it: errors against float64, "
        "and rates. Exit codes: 0 sound, 1 an operator is wrong, 2 bad input.",
    )
    parser.add_argument("--native", default="auto", metavar="MODE", help="auto (the default), on or off, as for hpjax.train")
    given = parser.read(words)
    if given.native not in _MODES:
        raise ConfigError(f"native is '{given.native}'; expected auto, on or off{did_you_mean(given.native, _MODES)}")
    return given


if __name__ == "__main__":
    # A lane has one core: XLA alone would take all of them for a product.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sys.exit(main(sys.argv))
