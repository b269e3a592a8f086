"""Optuna's storage of a database, closed after use: SQLite's connections must not be left to the collector."""

import contextlib
from collections.abc import Iterator

import optuna


@contextlib.contextmanager
def stored(url: str) -> Iterator[optuna.storages.RDBStorage]:
    storage = optuna.storages.RDBStorage(url)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
