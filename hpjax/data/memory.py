"""How much memory this machine has left for data."""

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")


def available() -> int | None:
    """Returns bytes of memory that may be taken without others being pushed out; None where the system does not say."""
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError, IndexError):
        return None
