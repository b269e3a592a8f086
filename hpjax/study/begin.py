"""The beginning of a study: its settings from Python, its folder, and what is written there first."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hpjax import devices, flags
from hpjax.config import STUDY_FIELDS, Config, StudyConfig
from hpjax.errors import ConfigError, RunFolderError, did_you_mean
from hpjax.ops import native
from hpjax.runfolder import FLAGS
from hpjax.runner import git_revision, versions
from hpjax.study.folder import StudyFolder
from hpjax.study.screen import StudyView
from hpjax.study.setup import Setup

SEARCH = "search"
"""Entry of metadata.json: the trials were chosen by a person's own search."""


def study_config(vary: Mapping[str, str] | Sequence[str], settings: Mapping[str, Any]) -> StudyConfig:
    """Returns a study's settings; raises ConfigError for a name that is unknown or a value that it cannot have."""
    for name in settings:
        if name not in STUDY_FIELDS:
            raise ConfigError(f"setting '{name}' is unknown{did_you_mean(name, STUDY_FIELDS)}")
    return StudyConfig(vary=vary, **settings)  # type: ignore[arg-type]


def open_folder(config: Config, settings: StudyConfig) -> StudyFolder:
    """Returns a study's folder, made if need be, and locked; raises RunFolderError where it cannot be."""
    named = f"runs/{config.dataset}_{config.model}-sweep-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = StudyFolder.open(settings.study or named)
    assert isinstance(folder, StudyFolder)
    return folder


def begin(folder: StudyFolder, parts: Setup, view: StudyView, **more: Any) -> None:
    """Writes flags.txt and metadata.json, or compares what a resumed study was made with.

    Args:
      folder: the study's folder.
      parts: its parts.
      view: the screen.
      **more: further entries of metadata.json.

    Raises:
      RunFolderError: the data have changed, or a file cannot be written.
    """
    data = parts.dataset.fingerprint()
    before = folder.metadata()
    if folder.resumed and before.get("data", data) != data:
        raise RunFolderError("the data set has changed since this study was begun; expected the same data or a new name")
    layout = parts.layout
    spanned = parts.share.spanned(layout.data_devices)
    identity = devices.identity(layout.width, layout.data_devices, parts.base.native, spanned) | {"lanes": layout.lanes}
    if folder.resumed and "identity" in before:
        changed = list(devices.differences(before["identity"], identity))
        if changed:
            view.warn(f"this study was begun elsewhere ({'; '.join(changed)}): from here on numbers may differ by rounding")
    if not folder.resumed or "identity" not in before or folder.extended is not None:
        if folder.extended is not None:
            # Flags of more trials in a folder that is done would make it look as if it had them.
            folder.update_metadata(status="running")
        header = ["a study, resolved; to repeat it:", "python -m hpjax.sweep --flagfile=THIS_FILE --study=NEW_FOLDER"]
        folder.write(FLAGS, flags.to_flagfile(parts.base, header, parts.study))
    folder.update_metadata(
        status="running",
        identity=identity,
        data=data,
        objective=[parts.objective.name, parts.objective.maximise, parts.objective.value],
        versions=versions(),
        git_revision=git_revision(),
        trials=parts.trials,
        rungs=list(parts.scheduler.rungs),
        evaluations=parts.scheduler.last,
        **more,
    )
    view.say(native.described(parts.base.native, parts.base.compute_dtype))
    lanes = f"{parts.layout.lanes} lanes of width {parts.layout.width} on {parts.layout.lane_devices} device(s)"
    lanes += f" of {parts.share.processes} processes" if parts.share.processes > 1 else ""
    view.say(f"{parts.trials} trials, {parts.asker.settings} settings, {lanes}; study folder: {folder.path}")
