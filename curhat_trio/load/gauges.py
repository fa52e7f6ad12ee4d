"""What is measured: times of which only some are kept, and what a process uses."""

import os
import random
import time
from pathlib import Path

import attrs

_KEPT = 100_000


@attrs.define
class Times:
    """Seconds that something took, again and again. Of many only a random sample is kept (reservoir sampling)."""

    count: int = 0
    largest: float = 0.0
    _kept: list[float] = attrs.Factory(list)

    def add(self, seconds: float) -> None:
        self.count += 1
        if seconds > self.largest:
            self.largest = seconds
        if len(self._kept) < _KEPT:
            self._kept.append(seconds)
        elif (place := random.randrange(self.count)) < _KEPT:
            self._kept[place] = seconds

    def percentile(self, share: float) -> float | None:
        """By nearest rank; None if there was nothing."""
        if not self._kept:
            return None
        ranked = sorted(self._kept)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


class NoProcess(Exception):
    """There is no process of this number; the argument tells it."""


@attrs.frozen
class ProcessGauge:
    """What Linux tells of a process in /proc (proc(5)). Where there is no /proc, everything is None."""

    pid: int
    proc: Path = Path("/proc")

    @property
    def is_readable(self) -> bool:
        """Whether this system tells such things at all."""
        return (self.proc / "self" / "stat").exists()

    def check(self) -> None:
        """
        Raises:
            NoProcess: The system would tell, but there is no such process.
        """
        if self.is_readable and self.cpu_seconds() is None:
            raise NoProcess(f"there is no process {self.pid}")

    def cpu_seconds(self) -> float | None:
        """CPU time of all its threads, in user and kernel mode."""
        try:
            fields = (self.proc / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError, AttributeError):
            return None

    def resident_kib(self) -> int | None:
        """Its memory that is in RAM."""
        try:
            lines = (self.proc / str(self.pid) / "status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
        except (OSError, ValueError, StopIteration):
            return None


def own_cpu_seconds() -> float:
    """What this process has used."""
    return time.process_time()


def difference(after: float | None, before: float | None) -> float | None:
    """None if one of them is not known."""
    return None if after is None or before is None else after - before
