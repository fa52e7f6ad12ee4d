"""Measurements: durations with percentiles, and the resources that a process uses."""

import os
import random
import time
from pathlib import Path

import attrs

_KEPT = 100_000


@attrs.define
class Durations:
    """Durations in seconds; of many only a random sample is kept (reservoir sampling)."""

    count: int = 0
    largest: float = 0.0
    _kept: list[float] = attrs.Factory(list)

    def add(self, seconds: float) -> None:
        """Add one duration."""
        self.count += 1
        self.largest = max(self.largest, seconds)
        if len(self._kept) < _KEPT:
            self._kept.append(seconds)
        elif (place := random.randrange(self.count)) < _KEPT:
            self._kept[place] = seconds

    def percentile(self, share: float) -> float | None:
        """The percentile by nearest rank; None without durations."""
        if not self._kept:
            return None
        ranked = sorted(self._kept)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


class NoSuchProcess(Exception):
    """There is no process with this id, which the message names."""


@attrs.frozen
class ProcessMonitor:
    """CPU time and memory of a process, from Linux's /proc (proc(5)); without /proc, everything is None."""

    pid: int
    proc: Path = Path("/proc")

    @property
    def is_readable(self) -> bool:
        """Whether this system has /proc."""
        return (self.proc / "self" / "stat").exists()

    def check(self) -> None:
        """Check that the process exists, as far as that can be known.

        Raises:
            NoSuchProcess: It does not.
        """
        if self.is_readable and self.cpu_seconds() is None:
            raise NoSuchProcess(f"there is no process {self.pid}")

    def cpu_seconds(self) -> float | None:
        """CPU time of all threads, in user and kernel mode."""
        try:
            fields = (self.proc / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError, AttributeError):
            return None

    def resident_kib(self) -> int | None:
        """Resident set size."""
        try:
            lines = (self.proc / str(self.pid) / "status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
        except (OSError, ValueError, StopIteration):
            return None


def own_cpu_seconds() -> float:
    """CPU time of this process."""
    return time.process_time()


def difference(after: float | None, before: float | None) -> float | None:
    """`after` minus `before`; None if one of them is unknown."""
    return None if after is None or before is None else after - before
