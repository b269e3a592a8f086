"""A study copied into an Optuna storage by its URL: SQLite, PostgreSQL, MySQL."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpjax.errors import ConfigError
from hpjax.study.as_optuna import Parameters, conclusion, description, outcome, shown
from hpjax.study.records import ENDED, TrialRecord
from hpjax.study.searched import Choices, Searched

NUMBER = "trial"
"""The user attribute that holds a trial's number: the copy counts only those that ended."""


def export(
    records: Sequence[TrialRecord],
    url: str,
    study_name: str,
    maximise: bool,
    *,
    searched: Mapping[str, Searched] | None = None,
    metric: str | None = None,
) -> int:
    """Copies the trials that ended into an Optuna storage, in one bulk; those that a copy before this one has are left out.

    Args:
      records: a study's trials.
      url: a URL as SQLAlchemy reads it, `sqlite:///study.db` for example.
      study_name: what Optuna calls the study.
      maximise: whether more of the objective is better.
      searched: what was searched, by setting.
      metric: the objective's name.

    Returns:
      How many trials were added.

    Raises:
      ConfigError: Optuna or the database's driver is missing, the URL cannot be used, or the storage holds a study of
        this name that is not a copy of this one.
    """
    optuna = _optuna()
    with _explained(url), _quiet(optuna), optuna_storage(url) as storage:
        study = optuna.create_study(
            storage=storage,
            study_name=study_name,
            direction="maximize" if maximise else "minimize",
            load_if_exists=True,
        )
        there = study.get_trials(deepcopy=False)
        parameters = Parameters(_as_stored(searched or {}, there))
        made = {r.number: _trial(optuna, r, parameters) for r in records if r.status in ENDED}
        if not all(_same(trial, made.get(trial.user_attrs.get(NUMBER))) for trial in there):
            raise ConfigError(
                f"storage '{_shown(url)}' holds another study '{study_name}'; expected a storage without it, or another name"
            )
        if metric is not None:
            study.set_metric_names([metric])
        known = {trial.user_attrs[NUMBER] for trial in there}
        study.add_trials([trial for number, trial in made.items() if number not in known])
    return len(made) - len(known)


@contextlib.contextmanager
def optuna_storage(url: str) -> Iterator[Any]:
    """Opens Optuna's storage of a database, and closes its connections at the end.

    Left to the garbage collector, Python 3.13 warns of SQLite's.

    Args:
      url: a URL as SQLAlchemy reads it.
    """
    storage = _optuna().storages.RDBStorage(url)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def check(url: str) -> None:
    """Refuses a storage that could not be written when a study has ended; makes nothing.

    Args:
      url: a URL as SQLAlchemy reads it.

    Raises:
      ConfigError: Optuna or the database's driver is missing, there is no folder for the file, or no server answers.
    """
    _optuna()
    with _explained(url):
        import sqlalchemy

        parsed = sqlalchemy.engine.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            engine = sqlalchemy.create_engine(parsed)
            try:
                engine.connect().close()
            finally:
                engine.dispose()
            return
        if parsed.database not in (None, "", ":memory:"):
            folder = Path(parsed.database).expanduser().absolute().parent
            if not os.access(folder, os.W_OK):
                reason = "cannot be written" if folder.is_dir() else "is no folder"
                raise ConfigError(f"storage '{_shown(url)}': '{folder}' {reason}; expected a folder that is there")


def _as_stored(searched: Mapping[str, Searched], there: Sequence[Any]) -> dict[str, Searched]:
    """Returns what was searched, of choices those that the storage has: a parameter's choices never change in it."""
    stored = {name: one for trial in there for name, one in trial.distributions.items()}
    result = dict(searched)
    for name, one in searched.items():
        choices = getattr(stored.get(name), "choices", None)
        if isinstance(one, Choices) and choices is not None:
            known = {shown(name, value): value for value in one.values}
            result[name] = Choices(tuple(known.get(choice, choice) for choice in choices))
    return result


def _trial(optuna: Any, record: TrialRecord, parameters: Parameters) -> Any:
    found = parameters.of(record.values)
    distributions = {name: optuna.distributions.json_to_distribution(one.distribution) for name, one in found.items()}
    state, values = outcome(record)
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState(int(state)),
        values=values,
        params={name: distributions[name].to_external_repr(one.value) for name, one in found.items()},
        distributions=distributions,
        user_attrs={NUMBER: record.number, **description(record, found), **conclusion(record)},
        intermediate_values={measured.step: measured.value for measured in record.curve},
    )


def _same(there: Any, made: Any) -> bool:
    """Returns whether a trial of the storage is a copy of ours."""
    return made is not None and (there.state, there.values, there.params) == (made.state, made.values, made.params)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError("storage needs Optuna, which is not installed; expected `pip install optuna`") from None
    return optuna


@contextlib.contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Keeps Optuna from telling of studies made, and from warning of what is meant to be."""
    import warnings

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turns whatever a database's driver raises into one line."""
    try:
        yield
    except ConfigError:
        raise
    except ImportError as error:
        raise ConfigError(
            f"storage '{_shown(url)}': {str(error).splitlines()[0]}; expected the database's driver to be installed"
        ) from None
    except Exception as error:
        # Drivers have a hundred kinds of errors, some of many lines.
        reason = (str(error).splitlines() or [type(error).__name__])[0].replace(url, _shown(url))
        raise ConfigError(
            f"storage '{_shown(url)}' cannot be used: {reason}; expected a URL like sqlite:///study.db"
        ) from None


def _shown(url: str) -> str:
    """Returns the URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
