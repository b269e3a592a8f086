"""`python -m hpjax.launch`: starts a run's or a study's processes here, or is the parent of one that a scheduler started."""

import os
import signal
import sys
from collections.abc import Sequence

from hpjax import command, flags
from hpjax.config import FIELDS, STUDY_FIELDS, StudyConfig
from hpjax.errors import ConfigError

DESCRIPTION = (
    "Trains one network, or with --vary a study, in several processes: --num_processes=N starts N of them on this host; "
    "where Slurm, Open MPI or Cloud TPU started this one, or --process_id says which it is, one, whose end it explains. "
    "Flags are hpjax.train's, or hpjax.sweep's."
)


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns what hpjax.train or hpjax.sweep returns, or 3 where a process was lost."""
    full_help = flags.wants_help(argv)
    if full_help is not None:
        sys.stdout.write(flags.help_text("python -m hpjax.launch", DESCRIPTION, full_help, {**FIELDS, **STUDY_FIELDS}))
        return 0

    def work() -> int:
        from hpjax.processes.children import Children

        commands = [[sys.executable, "-u", "-m", module(argv), *argv[1:], *more] for more in children(argv)]
        started = Children(commands)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, started.send)
        if len(commands) > 1:
            pids = ", ".join(str(process.pid) for process in started.processes)
            started.say(f"{len(commands)} processes on this host: {pids}")
        return started.wait()

    return command.run("hpjax.launch", work)


def module(argv: Sequence[str]) -> str:
    """Returns which command line takes these flags: a study's where one of a study is among them."""
    _, study = flags.parse_study(argv)
    return "hpjax.train" if study == StudyConfig() else "hpjax.sweep"


def children(argv: Sequence[str]) -> list[list[str]]:
    """Returns the flags that each process is given more than `argv` has.

    Raises:
      ConfigError: the flags are bad, or do not say how many processes to start.
    """
    from hpjax.processes.detect import detect

    config, _ = flags.parse_study(argv)
    if config.process_id is not None or (config.num_processes != 1 and (detect(os.environ).number or 1) > 1):
        return [[]]
    if config.num_processes is None:
        raise ConfigError(
            "num_processes is not set, and no scheduler has started several; expected --num_processes=NUMBER to start here"
        )
    address = config.coordinator_address or f"127.0.0.1:{_free_port()}"
    same = [f"--coordinator_address={address}"] if config.num_processes > 1 else []
    return [[*same, f"--process_id={id_}"] if same else [] for id_ in range(config.num_processes)]


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv))
