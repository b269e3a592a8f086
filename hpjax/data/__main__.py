"""`python -m hpjax.data`: lists the data sets, downloads the published ones. Flags in, exit code out."""

import argparse
import inspect
import sys
from collections.abc import Sequence

from hpjax import command
from hpjax.data.fetch import fetch
from hpjax.data.published import CATALOGUE
from hpjax.data.registry import DATASETS
from hpjax.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0 (done), 2 (bad input or no download) or 130 (interrupted)."""

    def work() -> int:
        given = _parse(argv[1:])
        if given.fetch is None:
            command.show(listing())
            return 0
        for name in given.fetch.split(","):
            fetch(name.strip(), given.data_dir, given.address)
        return 0

    return command.run("hpjax.data", work, "interrupted; the same command goes on where it was")


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = command.Parser(
        "python -m hpjax.data",
        description="Lists the data sets, or downloads published ones. Exit codes: 0 done, 2 bad input or no download.",
    )
    parser.add_argument("--list", action="store_true", help="list every data set, its task and where it is had")
    parser.add_argument("--fetch", metavar="NAME", help=f"download the files of {', '.join(CATALOGUE)}")
    parser.add_argument("--data_dir", metavar="FOLDER", help="where they go, each to a folder of its name ($HPJAX_DATA_DIR)")
    parser.add_argument("--from", dest="address", metavar="ADDRESS", help="a mirror: where the files lie side by side")
    given = parser.read(words)
    if given.list == (given.fetch is not None):
        raise ConfigError("expected one of --list and --fetch=NAME; --help explains them")
    if given.list and (given.data_dir or given.address):
        raise ConfigError(f"flag '{'from' if given.address else 'data_dir'}' is not used by --list")
    return given


def listing() -> str:
    """Returns the data sets as lines: name, task and what it is, then its files if it is published."""
    lines = []
    for name in DATASETS.names():
        lines.append(f"{name} ({DATASETS.task(name)})")
        lines.append(f"  {(inspect.getdoc(DATASETS.get(name)) or '').partition(chr(10))[0]}")
        if name in CATALOGUE:
            lines += _where(name)
    for name, published in CATALOGUE.items():
        if name not in DATASETS.names():
            lines += [f"{name} (for {published.use})", *_where(name)]
    return "\n".join(lines) + "\n"


def _where(name: str) -> list[str]:
    published = CATALOGUE[name]
    size = sum(file.size for file in published.files) / 1e6
    files = ", ".join(file.name for file in published.files)
    return [f"  files: {files}", f"  had at {published.address} ({size:.0f} MB): --fetch={name} --data_dir=FOLDER"]


if __name__ == "__main__":
    sys.exit(main(sys.argv))
