"""Fine-tuning: a run that begins with the variables of another run's checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from hpjax import checkpoints
from hpjax.errors import ConfigError, RunFolderError
from hpjax.runfolder import CHECKPOINTS, JOURNAL, METADATA, PARAMS, read_metadata


class Initial(NamedTuple):
    """Variables to begin with.

    Attributes:
      variables: nested dicts of NumPy arrays by collection, a part of the model's.
      notes: what a person should be told: what was taken, and what was not and why.
    """

    variables: dict[str, Any]
    notes: list[str]


def load(place: str, model: Mapping[str, Any]) -> Initial:
    """Returns the variables of a checkpoint that fit a model, by name and shape.

    Args:
      place: a run's folder, whose chosen (else newest) checkpoint is taken, a study's, whose winner is, or a checkpoint's.
      model: the model's variables by collection: arrays, or their shapes.

    Raises:
      ConfigError: there is no such checkpoint, it is damaged, or nothing in it fits.
    """
    folder = _checkpoint(Path(place).expanduser())
    try:
        state = checkpoints.read(folder)
    except RunFolderError as error:
        raise ConfigError(f"init_from: {error}") from None
    params = state["params"] if state.get("average") is None else state["average"]
    found = _flat({"params": params, **(state.get("collections") or {})})
    wanted = _flat(model)
    fits = {name: value for name, value in found.items() if name in wanted and wanted[name].shape == value.shape}
    if not any(name.startswith("params/") for name in fits):
        example = next(iter(found), "nothing")
        raise ConfigError(
            f"init_from '{place}': no parameter fits by name and shape; the checkpoint has {example}, "
            f"the model {next(iter(wanted))}"
        )
    notes = [f"begins with {len(fits)} of {len(wanted)} variables of '{folder}'"]
    fresh = [f"{name} {list(wanted[name].shape)}" for name in wanted if name not in fits]
    if fresh:
        notes.append(f"not in it with that shape, and drawn anew: {', '.join(fresh)}")
    return Initial(_nested({name: np.asarray(value, wanted[name].dtype) for name, value in fits.items()}), notes)


def _checkpoint(place: Path) -> Path:
    if (place / checkpoints.CHECKSUMS).is_file():
        return place
    if (place / JOURNAL).is_file():
        return _of_study(place)
    if not (place / METADATA).is_file():
        raise ConfigError(f"init_from is '{place}'; expected a run's folder, a study's or a checkpoint's")
    kept = sorted(int(path.name) for path in (place / CHECKPOINTS).glob("*") if path.name.isdecimal())
    chosen = read_metadata(place).get("chosen_tick")
    tick = chosen if chosen in kept else max(kept, default=None)
    if tick is None:
        raise ConfigError(f"init_from '{place}' has no checkpoint yet; expected a run that has saved one")
    return place / CHECKPOINTS / str(tick)


def _of_study(place: Path) -> Path:
    """Returns the checkpoint of a study's winner."""
    facts = read_metadata(place)
    if facts.get("status") != "done" or not facts.get("kept"):
        raise ConfigError(f"init_from '{place}' has no winner; expected a study that has ended with a best setting")
    return place / PARAMS / str(facts["kept"][0])


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(str(getattr(key, "key", key)) for key in path): leaf for path, leaf in leaves}


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, leaf = name.split("/")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[leaf] = value
    return tree
