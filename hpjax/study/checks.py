"""What a study refuses of the settings of its trials."""

import os
from collections.abc import Iterable

from hpjax.config import FIELDS, PROCESSES, Config, to_text
from hpjax.errors import ConfigError
from hpjax.processes import detect

UNUSED: dict[str, str] = {
    "run_dir": "a study has a folder of its own: expected --study=FOLDER",
    "callback": "a study's trials call none: expected none",
    "inspect": "a study's trials are not looked into: expected none, or python -m hpjax.inspection with the winner",
    "dry_run": "a study has none: expected hpjax.train for one of its trials",
    "shard_optimizer_state": "a study's lanes keep theirs whole: expected false",
}
"""Settings of a run that a study does not use, and what to do instead."""


def check(config: Config) -> None:
    """Raises ConfigError for a setting that would be ignored."""
    for name, instead in UNUSED.items():
        value = getattr(config, name)
        if value != FIELDS[name].default:
            raise ConfigError(f"{name} is {to_text(name, value)}, but {instead}")
    if config.stream == "on":
        raise ConfigError("stream is on, but a study's lanes share data that lie in memory: expected auto or off")


def check_alone(config: Config, what: str) -> None:
    """Raises ConfigError where flags or a scheduler say that several processes share what runs in one; `what` names it."""
    given = {name: getattr(config, name) for name in PROCESSES[:3]}
    if given == {**dict.fromkeys(given), "num_processes": 1}:
        return
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"{name} is {value}, but {what} runs in one process: expected none")
    found = detect.detect(os.environ)
    if (found.number or 1) > 1:
        raise ConfigError(f"{found.scheduler} started {found.number} processes, but {what} runs in one: expected one")


def check_order(config: Config, varied: Iterable[str]) -> None:
    """Raises ConfigError where trials that share their batches are to have other orders of the data, or other data."""
    for name in ("data_seed", "fold"):
        if config.share_batches and name in varied:
            raise ConfigError(
                f"{name} is varied, but with share_batches all trials have one order of the data; "
                f"expected no {name}{'s' if name == 'fold' else ''}, or --noshare_batches"
            )


def check_folds(config: Config, folds: Iterable[int]) -> None:
    """Raises ConfigError where a config's data have not all of the folds that are varied."""
    last = max(folds)
    if config.folds is None and last > 0:
        raise ConfigError(f"fold is varied up to {last}, but folds is not given; expected --folds=NUMBER")
    if config.folds is not None and last >= config.folds:
        raise ConfigError(f"fold is varied up to {last}; expected one of the {config.folds} folds, 0 to {config.folds - 1}")
