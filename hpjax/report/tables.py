"""Every number behind the report as CSV."""

import csv
import io
from typing import TYPE_CHECKING, Any

from hpjax.config import FIELDS, to_text
from hpjax.recipe.finding import Table
from hpjax.recipe.folder import TABLES, RecipeFolder
from hpjax.report.timing import cost
from hpjax.runfolder import explained

if TYPE_CHECKING:
    from hpjax.recipe.recipe import Tuned
    from hpjax.report.material import Trials


def write_tables(folder: RecipeFolder, tuned: "Tuned", studies: "dict[str, Trials]") -> list[str]:
    """Writes the tables of every step (`STEP_TABLE.csv`), the notes and the cost; returns their names.

    Floats are written in full; what is not a number is `nan`, what is not there is empty.

    Raises:
      RunFolderError: one cannot be written.
    """
    notes = [(step, note) for step, finding in tuned.findings.items() for note in finding.notes]
    tables: dict[str, Table] = {
        "notes": {
            "step": [step for step, _ in notes],
            **{name: [getattr(note, name) for _, note in notes] for name in ("rule", "verdict", "evidence", "remedy")},
        },
        "cost": cost(tuned, studies),
    }
    for step, finding in tuned.findings.items():
        tables |= {f"{step}_{name}": table for name, table in finding.tables.items()}
    with explained(folder.path):
        (folder.path / TABLES).mkdir(exist_ok=True)
    for name, table in tables.items():
        folder.write(f"{TABLES}/{name}.csv", as_csv(table))
    return [f"{name}.csv" for name in tables]


def as_csv(table: Table) -> str:
    """Returns a table as comma-separated values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*([_cell(name, value) for value in values] for name, values in table.items()), strict=True))
    return text.getvalue()


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    return to_text(name, value) if name in FIELDS else str(value)
