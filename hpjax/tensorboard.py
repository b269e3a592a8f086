"""What is used of tensorboardX, loaded without its package's own imports.

Those include torch where it is installed: more than a second at every start, and nothing here needs it.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = [
    "HParamsPluginData",
    "RecordWriter",
    "api_pb2",
    "event_pb2",
    "hparams",
    "register_writer_factory",
    "summary_pb2",
]

_NAME = "tensorboardX"
_OURS: dict[str, ModuleType] = {}


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Inside, modules of tensorboardX are imported without its `__init__`; who imports it outside gets all of it, anew."""
    found = None if _NAME in sys.modules else importlib.util.find_spec(_NAME)
    if found is None:
        # Someone has imported all of it, or it is missing, which the import will say.
        yield
        return
    sys.modules.update(_OURS or {_NAME: importlib.util.module_from_spec(found)})
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == _NAME]:
            _OURS[name] = sys.modules.pop(name)


with _alone():
    from tensorboardX.proto import api_pb2, event_pb2, summary_pb2
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
    from tensorboardX.record_writer import RecordWriter, register_writer_factory
    from tensorboardX.summary import hparams as _hparams


def hparams(values: dict[str, Any], metrics: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Returns tensorboardX's three summaries of a run's hyperparameters and of what it measures."""
    # It imports when it is called.
    with _alone():
        return _hparams(values, metrics)  # type: ignore[no-any-return]
