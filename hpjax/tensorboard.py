"""What is used of tensorboardX, without what its package imports.

That includes torch where it is installed: more than a second at every start, and nothing here needs it. The package is put
in place without running its `__init__`, which runs when something of it is first asked for: who imports it has all of it.
"""

import importlib.util
import sys
import threading
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


def _put_in_place(name: str) -> None:
    """Puts a package into `sys.modules` that begins to be whole when an attribute is asked for, from any thread."""
    found = None if name in sys.modules else importlib.util.find_spec(name)
    if found is None or found.loader is None:
        return
    package, run, lock = importlib.util.module_from_spec(found), found.loader.exec_module, threading.RLock()
    begun: list[str] = []

    def attribute(asked: str) -> Any:
        # What Python and its tools look for in any module asks for nothing of this one.
        if asked.startswith("__") and asked not in ("__all__", "__version__"):
            raise AttributeError(asked)
        with lock:
            if not begun:
                begun.append(asked)
                try:
                    run(package)
                except BaseException:
                    begun.clear()
                    raise
            if asked in vars(package):
                return vars(package)[asked]
        raise AttributeError(f"module '{name}' has no attribute '{asked}'")

    package.__getattr__ = attribute  # type: ignore[method-assign]
    sys.modules.setdefault(name, package)


_put_in_place("tensorboardX")

from tensorboardX.proto import api_pb2, event_pb2, summary_pb2  # noqa: E402
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData  # noqa: E402
from tensorboardX.record_writer import RecordWriter, register_writer_factory  # noqa: E402
from tensorboardX.summary import hparams  # noqa: E402
