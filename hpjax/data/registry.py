"""Where data sets are registered: functions of keyword-only settings that return a `Dataset`."""

from collections.abc import Callable

from hpjax.data.dataset import Dataset
from hpjax.registry import Registry

DATASETS: Registry[Callable[..., Dataset]] = Registry("dataset")
