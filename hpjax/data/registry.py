"""Where data sets are registered: functions of keyword-only settings that return a `Dataset`."""

from collections.abc import Callable
from typing import Any, TypeVar

from hpjax.data.dataset import Dataset, check
from hpjax.errors import DataError
from hpjax.registry import REQUIRED, Registry

Load = Callable[..., Dataset]
L = TypeVar("L", bound=Load)

_RETURN = (
    "expected a hpjax.data.Dataset: return hpjax.data.create(name, train=(x, y), val=(x, y), test=(x, y), num_classes=n)"
)


class DatasetRegistry(Registry[Load]):
    """The registry of data sets: what task an entry is for, and its data, checked."""

    def task(self, name: str, chosen: str | None = None) -> str:
        """Returns an entry's task, before its data is read.

        Args:
          name: the entry.
          chosen: what the person chose (the setting `task`), for an entry that takes it.

        Returns:
          `chosen`, or its default, for an entry with a setting `task`; else what `@task(...)` declares, by default
          'classification'.
        """
        default = self.settings(name).get("task", REQUIRED)
        if default is not REQUIRED:
            return chosen or default
        return getattr(self.get(name), "task", "classification")

    def load(self, name: str, settings: dict[str, Any]) -> Dataset:
        """Returns an entry's data set, checked.

        Args:
          name: the entry.
          settings: its settings by name.

        Raises:
          ConfigError: a setting that it cannot use.
          DataError: its data is missing, damaged, no `Dataset`, not sound, or for another task than declared.
        """
        self.check_call(name)
        dataset = self.get(name)(**settings)
        if not isinstance(dataset, Dataset):
            raise DataError(f"dataset '{name}' gave {_described(dataset)}; {_RETURN}")
        check(dataset)
        declared = self.task(name, settings.get("task"))
        if dataset.task != declared:
            raise DataError(
                f"dataset '{name}' gave data for the task '{dataset.task}'; expected '{declared}': "
                f"write @hpjax.data.task('{dataset.task}') above its function"
            )
        return dataset


DATASETS = DatasetRegistry("dataset")


def task(name: str) -> Callable[[L], L]:
    """Decorator: declares what task a data set is for; without it 'classification'."""

    def declare(entry: L) -> L:
        entry.task = name  # type: ignore[attr-defined]
        return entry

    return declare


def _described(value: Any) -> str:
    """Returns the type of what is no data set, of a tuple, list or dict with those of its elements."""
    kind = type(value).__name__
    if isinstance(value, (tuple, list)):
        return f"a {kind} of {len(value)} ({', '.join(type(one).__name__ for one in value[:6])})"
    if isinstance(value, dict):
        return f"a {kind} of {len(value)} ({', '.join(map(repr, list(value)[:6]))})"
    return "nothing" if value is None else f"a {kind}"
