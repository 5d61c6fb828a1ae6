"""How one process, with the processes that it starts, is measured: wall seconds, CPU seconds, peak memory."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import psutil

#: Seconds between two looks at the memory of a process tree; one process alone tells its own peak exactly.
_LOOK = 0.1


@dataclass
class Measured:
    """One run: seconds on the wall and on the CPU, peak resident memory of all its processes together in MB."""

    seconds: float
    cpu: float
    peak_mb: float
    output: str


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path, fine: Collection[int] = (0,)) -> Measured:
    """Run a command to its end; raises RuntimeError with the end of its output where its exit code is not `fine`."""
    log = folder / "out.txt"
    with log.open("w") as out, (folder / "err.txt").open("w") as err:
        started = monotonic()
        process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=folder, stdout=out, stderr=err)
        tree = _Tree(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    tree.stop()
    if process.returncode not in fine:
        raise RuntimeError(f"{command} failed: {log.read_text()[-2000:]} {(folder / 'err.txt').read_text()[-3000:]}")
    peak = max(usage.ru_maxrss / 1024, tree.peak_mb)
    return Measured(seconds, usage.ru_utime + usage.ru_stime, peak, log.read_text())


class _Tree:
    """Looks at the memory of a process and its children together, as long as there are children."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._process, self._stopped = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            try:
                children = self._process.children(recursive=True)
                every = [self._process, *children] if children else []
                self.peak_mb = max(self.peak_mb, sum(process.memory_info().rss for process in every) / 2**20)
            except psutil.Error:
                pass
            sleep(_LOOK)

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread.join()
