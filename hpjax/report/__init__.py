"""The report of a recipe: what was found, in words and pictures, for a colleague."""

from typing import TYPE_CHECKING

from hpjax.recipe.folder import MARKDOWN, RecipeFolder
from hpjax.report.words import markdown

if TYPE_CHECKING:
    from hpjax.recipe.recipe import Tuned

__all__ = ["write"]


def write(folder: RecipeFolder, tuned: "Tuned") -> None:
    """Writes the report of a recipe into its folder."""
    folder.write(MARKDOWN, markdown(tuned))
