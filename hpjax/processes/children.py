"""Processes of a run as another process's children: what they say is passed on once, and how they end becomes one line."""

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import IO

from hpjax.command import BAD_INPUT
from hpjax.processes.team import LOST, SECONDS_OF_SILENCE

SECONDS_TO_END = SECONDS_OF_SILENCE + 15.0
"""After one child has ended badly, how long the others may take to notice it."""
SAVED = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit codes of children that end all alike, at their own time."""
FATAL = re.compile(r"F\d{4} \d\d:\d\d:|\*\*\* Check failure|terminate called")
"""How the lines begin with which JAX's runtime aborts; what follows is a trace of its own."""
COORDINATION = re.compile(r"[EW]\d{4} .*coordination_service|Additional GRPC error|:UNKNOWN:Error received")
REASON = re.compile(r"hpjax(?:\.\w+)?: (?:process \d+ of \d+: )?(.*)")


class Children:
    """Started processes, by their order."""

    def __init__(self, commands: Sequence[Sequence[str]]):
        """Starts them; what the first prints is shown, of the others what they complain of.

        Args:
          commands: a command each.
        """
        self._seen: dict[str, int] = {}
        self._aborted: dict[int, str] = {}
        self._showing = threading.Lock()
        # A session of their own: Ctrl-C comes here alone, and is passed on once.
        self.processes = [
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=None if number == 0 else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            for number, command in enumerate(commands)
        ]
        self._readers = [
            threading.Thread(target=self._pass_on, args=(number, process.stderr), daemon=True)
            for number, process in enumerate(self.processes)
        ]
        for reader in self._readers:
            reader.start()

    def send(self, number: int, frame: FrameType | None = None) -> None:
        """Passes a signal on."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    def wait(self) -> int:
        """Returns the exit code that stands for all of theirs, once they have ended; says who was ended by a signal."""
        deadline = None
        while any(process.poll() is None for process in self.processes):
            codes = [process.poll() for process in self.processes]
            if deadline is None and any(code is not None and code not in SAVED for code in codes):
                deadline = time.monotonic() + SECONDS_TO_END
            if deadline is not None and time.monotonic() > deadline:
                left = [str(number) for number, code in enumerate(codes) if code is None]
                self.say(f"process {', '.join(left)} did not end within {SECONDS_TO_END:.0f} s of another's end: killed")
                self.send(signal.SIGKILL)
                deadline = float("inf")
            time.sleep(0.05)
        for reader in self._readers:
            reader.join(5.0)
        for process in self.processes:
            if process.stderr is not None:
                process.stderr.close()
        return self._explained([process.wait() for process in self.processes])

    def _explained(self, codes: list[int]) -> int:
        """Returns what the exit codes come to, and says what no child could say itself."""
        said = bool(self._seen)
        for number, code in enumerate(codes):
            who = f"process {number} of {len(codes)}"
            if code == -signal.SIGABRT and not said:
                reason = " ".join(self._aborted.get(number, "it gave no reason").split())[:300]
                self.say(f"{who} was ended by JAX's runtime: {reason}")
            elif code < 0 and code != -signal.SIGABRT:
                self.say(f"{who} was ended by {signal.Signals(-code).name}")
        if BAD_INPUT in codes:
            return BAD_INPUT
        return LOST if LOST in codes or min(codes) < 0 else max(codes)

    def say(self, line: str) -> None:
        """Prints a line of ours."""
        sys.stderr.write(f"hpjax.launch: {line}\n")
        sys.stderr.flush()

    def _pass_on(self, number: int, lines: IO[str]) -> None:
        """Shows what a child complains of, unless another has shown it or JAX's runtime does so while it aborts."""
        for line in lines:
            if FATAL.match(line) and number not in self._aborted:
                self._aborted[number] = line.strip()
            reason = REASON.match(line)
            if (number in self._aborted and reason is None) or COORDINATION.match(line):
                continue
            with self._showing:
                first = self._seen.setdefault(reason[1] if reason else line.strip(), number)
                if first == number and (number == 0 or line.strip()):
                    sys.stderr.write(line)
                    sys.stderr.flush()
