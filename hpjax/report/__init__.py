"""The report of a recipe: what was found, in words and pictures, for a colleague."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpjax.recipe.folder import MARKDOWN, PICTURES, REPORT, RecipeFolder

if TYPE_CHECKING:
    from hpjax.recipe.recipe import Tuned

__all__ = ["write"]


def write(
    folder: RecipeFolder, tuned: "Tuned", time_left: Callable[[], float] = lambda: math.inf, unit: float = 1.0
) -> None:
    """Writes the report of a recipe into its folder: report.html, report.md with pictures/, tables/ and tb/.

    What a step needs of its study is read from the study's folder; of one that is lost, what the findings hold is shown.

    Args:
      folder: the recipe's folder.
      tuned: what its steps found; any of them may be missing.
      time_left: returns the seconds that are left for it: with too few, what a report can do without is left out, which it
        says; `python -m hpjax.report FOLDER` adds it.
      unit: seconds for which a program compiles here, by which it is judged what takes how long.

    Raises:
      RunFolderError, ConfigError: a file cannot be written.
    """
    # Imported here: most of what imports this package only wants its words.
    from hpjax.report import events, material, pictures, tables, words
    from hpjax.report.markdown import markdown
    from hpjax.report.page import page
    from hpjax.report.sections import sections

    studies = material.studies(tuned)

    def enough(units: float) -> bool:
        return time_left() > units * unit

    summary, parts = words.summary(tuned), sections(tuned, studies, enough)
    folder.write(REPORT, page(summary, tuned.verdict, parts, studies, _foot(folder)))
    names = tables.write_tables(folder, tuned, studies)
    drawn = pictures.draw([chart for part in parts for chart in part.charts], studies, folder.path / PICTURES, enough)
    folder.write(MARKDOWN, markdown(summary, parts, drawn, names))
    events.write_events(folder.path, tuned)


def _foot(folder: RecipeFolder) -> str:
    facts = folder.metadata()
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    revision = facts.get("git_revision")
    return f"Written by hpjax.tune with {versions or 'unknown versions'}" + (
        f", revision {revision[:12]}." if revision else "."
    )
