"""A recipe's folder: what each step found, the studies it ran, and the report."""

import json
import shutil

from hpjax import flags
from hpjax.config import FIELDS, NOT_PART_OF_A_STUDY, PLACES, TUNE_FIELDS, Config, TuneConfig
from hpjax.errors import ConfigError, RunFolderError
from hpjax.recipe.context import STATE
from hpjax.recipe.finding import Finding
from hpjax.runfolder import FLAGS, JOURNAL, METRICS, RunFolder, changes, explained
from hpjax.settings.recipe import STEPS
from hpjax.study.folder import BEST

FOUND, TABLES, REPORT, MARKDOWN, PICTURES = "steps", "tables", "report.html", "report.md", "pictures"
STUDIES = ("coarse", "refine", "confirm")


class RecipeFolder(RunFolder):
    """An open recipe folder, locked until `close`."""

    def adopt_recipe(self, config: Config, recipe: TuneConfig) -> tuple[Config, TuneConfig]:
        """Returns the configs to run: the folder's own where it holds this recipe, else those given.

        Args:
          config: the trials' config, defaults not filled in.
          recipe: the recipe's.

        Raises:
          RunFolderError: the folder holds something else, or `resume` is false and it holds a recipe. More --steps and
            another --budget are no other recipe.
        """
        if not (self.path / FLAGS).exists():
            return config, recipe
        if (self.path / METRICS).exists() or (self.path / JOURNAL).exists():
            raise RunFolderError(f"'{self.path}' holds a run or a study, not a recipe; expected a new name")
        if config.overwrite:
            self._delete_run()
            return config, recipe
        if not config.resume:
            raise RunFolderError(
                f"'{self.path}' holds a recipe and --noresume was given; expected --overwrite or a new name"
            )
        try:
            stored, stored_recipe = flags.parse_tune([FLAGS, f"--flagfile={self.path / FLAGS}"])
        except ConfigError as error:
            raise RunFolderError(f"'{self.path / FLAGS}' cannot be read: {error}; expected --overwrite") from None
        but = (*NOT_PART_OF_A_STUDY, *PLACES, "steps", "budget")
        changed = changes(FIELDS, stored, config, but) | changes(TUNE_FIELDS, stored_recipe, recipe, but)
        if changed:
            raise RunFolderError(
                f"'{self.path}' holds a recipe with other flags ({'; '.join(changed.values())}); expected the same flags, "
                "--overwrite or a new name"
            )
        self.resumed = True
        places = [name for name in (*NOT_PART_OF_A_STUDY, *PLACES) if name in FIELDS]
        return stored.replace(**{name: getattr(config, name) for name in places}), recipe

    def found(self) -> dict[str, Finding]:
        """Returns what the steps that have ended found, by name, in the recipe's order."""
        found = {}
        for step in STEPS:
            path = self.path / FOUND / f"{step}.json"
            if path.exists():
                try:
                    found[step] = Finding.from_json(json.loads(path.read_text()))
                except (ValueError, TypeError, KeyError):
                    raise RunFolderError(f"'{path}' is damaged; expected --overwrite or a new name") from None
        return found

    def keep(self, finding: Finding) -> None:
        """Writes what a step found."""
        with explained(self.path):
            (self.path / FOUND).mkdir(exist_ok=True)
        self.write(f"{FOUND}/{finding.step}.json", json.dumps(finding.to_json()))

    def _delete_run(self) -> None:
        with explained(self.path):
            for name in (*STUDIES, FOUND, TABLES, PICTURES):
                shutil.rmtree(self.path / name, ignore_errors=True)
            for name in (STATE, BEST, REPORT, MARKDOWN, "confirm.json"):
                (self.path / name).unlink(missing_ok=True)
        super()._delete_run()
