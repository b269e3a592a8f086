"""A study's folder: a run folder whose flags are those of a study."""

import dataclasses
import shutil

from hpjax import flags
from hpjax.config import FIELDS, NOT_PART_OF_A_STUDY, PLACES, STUDY_FIELDS, Config, StudyConfig
from hpjax.errors import ConfigError, RunFolderError
from hpjax.runfolder import FLAGS, JOURNAL, METRICS, PARAMS, RunFolder, changes, explained

TABLE, BEST, PICTURES, END = "trials.csv", "best.flags", "pictures", "end.json"

EXTENDED = ("trials", "vary")
"""Settings that may change where a study is extended."""


class StudyFolder(RunFolder):
    """An open study folder, locked until `close`.

    Attributes:
      extended: the settings that its study had, where it goes on with others; else None.
      writes: whether this process writes it, and not another one.
    """

    extended: StudyConfig | None = None
    writes = True

    def adopt_study(self, config: Config, study: StudyConfig) -> tuple[Config, StudyConfig]:
        """Returns the configs to run: the folder's own where it holds this study, else those given.

        Args:
          config: the trials' config, defaults not filled in.
          study: the study's.

        Raises:
          RunFolderError: the folder holds a study with other flags, or `resume` is false and it holds any. With `extend`
            more trials and another space are no other flags.
        """
        if not (self.path / FLAGS).exists():
            return config, study
        if (self.path / METRICS).exists():
            raise RunFolderError(f"'{self.path}' holds a run, not a study; expected a new name")
        if config.overwrite:
            self._delete_run()
            return config, study
        if not config.resume:
            raise RunFolderError(f"'{self.path}' holds a study and --noresume was given; expected --overwrite or a new name")
        stored, stored_study = self.stored_study()
        but = (*NOT_PART_OF_A_STUDY, *PLACES)
        changed = changes(FIELDS, stored, config, but) | changes(STUDY_FIELDS, stored_study, study, but)
        if not changed.keys() <= ({*EXTENDED} if study.extend else set()):
            extend = "--extend, which goes on with them, " if changed.keys() <= {*EXTENDED} else ""
            raise RunFolderError(
                f"'{self.path}' holds a study with other flags ({'; '.join(changed.values())}); expected the same flags, "
                f"{extend}--overwrite or a new name"
            )
        self.resumed = True
        if changed:
            self.extended = stored_study
            stored_study = dataclasses.replace(stored_study, **{name: getattr(study, name) for name in EXTENDED})
        places = {name: getattr(config, name) for name in (*NOT_PART_OF_A_STUDY, *PLACES) if name in FIELDS}
        return stored.replace(**places), dataclasses.replace(stored_study, storage=study.storage)

    def stored_study(self) -> tuple[Config, StudyConfig]:
        """Returns the folder's own configs; raises RunFolderError where they cannot be read."""
        try:
            return flags.parse_study([FLAGS, f"--flagfile={self.path / FLAGS}"])
        except ConfigError as error:
            raise RunFolderError(f"'{self.path / FLAGS}' cannot be read: {error}; expected --overwrite") from None

    def _delete_run(self) -> None:
        with explained(self.path):
            for name in (PICTURES, PARAMS):
                shutil.rmtree(self.path / name, ignore_errors=True)
            for name in (JOURNAL, TABLE, BEST, END):
                (self.path / name).unlink(missing_ok=True)
        super()._delete_run()
