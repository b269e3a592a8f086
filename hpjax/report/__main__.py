"""`python -m hpjax.report FOLDER`: writes the report of a recipe again, from what its folder holds."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from hpjax import command
from hpjax.errors import ConfigError, RunFolderError

DESCRIPTION = "Writes the report of a recipe again, from what its folder holds: report.html, report.md, pictures, tables."


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0 (done) or 2 (bad input)."""
    usage = f"usage: python -m hpjax.report FOLDER\n\n{DESCRIPTION}\n"
    if "--help" in argv[1:]:
        sys.stdout.write(usage)
        return 0

    def work() -> int:
        if len(argv) != 2 or argv[1].startswith("-"):
            raise ConfigError(f"{' '.join(argv[1:]) or 'nothing'} was given; expected the folder of a recipe")
        command.show(f"report: {rebuild(argv[1])}")
        return 0

    return command.run("hpjax.report", work)


def rebuild(path: str | Path) -> Path:
    """Writes the report of the recipe in a folder, and returns its file.

    Raises:
      RunFolderError: the folder holds no recipe, is in use, or is damaged.
    """
    import contextlib

    from hpjax import durations, flags
    from hpjax.recipe.asked import chosen
    from hpjax.recipe.context import Memory
    from hpjax.recipe.folder import FOUND, RecipeFolder
    from hpjax.recipe.recipe import Tuned
    from hpjax.report import write
    from hpjax.runfolder import FLAGS

    path = Path(path).expanduser()
    if not (path / FOUND).is_dir() or not (path / FLAGS).is_file():
        raise RunFolderError(f"'{path}' holds no recipe; expected a recipe's folder, with {FLAGS} and {FOUND}/")
    config, recipe = flags.parse_tune([FLAGS, f"--flagfile={path / FLAGS}"])
    with contextlib.closing(RecipeFolder.open(path)) as folder:
        assert isinstance(folder, RecipeFolder)
        found = folder.found()
        used = Memory(folder).get("used", math.nan)
        tuned = Tuned(folder.path, chosen(config, found), found, durations.seconds(recipe.budget), used)
        write(folder, tuned)
    return tuned.report


if __name__ == "__main__":
    sys.exit(main(sys.argv))
