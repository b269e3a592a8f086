"""hpjax: research on the hyperparameters of deep networks, many trials at once in one compiled program."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpjax.config import Config as Config
    from hpjax.devices import configure

    configure_devices = configure
    from hpjax.errors import HpjaxError as HpjaxError
    from hpjax.recipe.recipe import Tuned as Tuned
    from hpjax.recipe.recipe import run_tune as run_tune
    from hpjax.result import Result as Result
    from hpjax.runner import run as run
    from hpjax.study.search import Search as Search
    from hpjax.study.study import Study as Study
    from hpjax.study.study import load_study as load_study
    from hpjax.study.study import run_sweep as run_sweep

__version__ = "0.1.0"

# Loaded when first used: `import hpjax` and `--help` stay quick, and JAX is not started.
_LAZY = {
    "Config": ("hpjax.config", "Config"),
    "HpjaxError": ("hpjax.errors", "HpjaxError"),
    "Result": ("hpjax.result", "Result"),
    "configure_devices": ("hpjax.devices", "configure"),
    "Search": ("hpjax.study.search", "Search"),
    "Study": ("hpjax.study.study", "Study"),
    "Tuned": ("hpjax.recipe.recipe", "Tuned"),
    "load_study": ("hpjax.study.study", "load_study"),
    "run": ("hpjax.runner", "run"),
    "run_sweep": ("hpjax.study.study", "run_sweep"),
    "run_tune": ("hpjax.recipe.recipe", "run_tune"),
}
_MODULES = ("data", "inspection", "losses", "metrics", "models", "ops", "optimizers", "sample", "schedules")
"""Modules that are there without being imported by name: `hpjax.schedules.create(...)`."""

__all__ = [
    "Config",
    "HpjaxError",
    "Result",
    "Search",
    "Study",
    "Tuned",
    "__version__",
    "configure_devices",
    "load_study",
    "run",
    "run_sweep",
    "run_tune",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"hpjax.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'hpjax' has no attribute '{name}'")
    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)
