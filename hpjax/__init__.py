"""hpjax: research on the hyperparameters of deep networks, many trials at once in one compiled program."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpjax.config import Config as Config
    from hpjax.devices import configure

    configure_devices = configure
    from hpjax.errors import HpjaxError as HpjaxError
    from hpjax.result import Result as Result
    from hpjax.runner import run as run

__version__ = "0.1.0"

# Loaded when first used: `import hpjax` and `--help` stay quick, and JAX is not started.
_LAZY = {
    "Config": ("hpjax.config", "Config"),
    "HpjaxError": ("hpjax.errors", "HpjaxError"),
    "Result": ("hpjax.result", "Result"),
    "configure_devices": ("hpjax.devices", "configure"),
    "run": ("hpjax.runner", "run"),
}
__all__ = ["Config", "HpjaxError", "Result", "__version__", "configure_devices", "run"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'hpjax' has no attribute '{name}'")
    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)
