"""The progress of a run: one line that is overwritten on a terminal, a line every few seconds elsewhere."""

from typing import TextIO

import trio

from curhat_trio.load.run import Run

_REDRAW_SECONDS = 0.2
_LINE_SECONDS = 5.0
_WIDTH = 79


async def show_progress(run: Run, out: TextIO) -> None:
    """Show the progress until cancelled; then the line of a terminal is cleared."""
    redraws = out.isatty()
    began, next_line, shown = trio.current_time(), 0.0, ""
    try:
        while True:
            await trio.sleep(_REDRAW_SECONDS)
            now = trio.current_time()
            line = describe(run, now - began)
            if redraws:
                out.write(f"\r\x1b[K{line[:_WIDTH]}")
            elif now >= next_line or run.status != shown:
                out.write(f"{line}\n")
                next_line, shown = now + _LINE_SECONDS, run.status
            out.flush()
    finally:
        if redraws:
            out.write("\r\x1b[K")
            out.flush()


def describe(run: Run, seconds: float) -> str:
    """The progress in one line."""
    statistics = run.statistics
    return (
        f"{run.status}, {seconds:.0f} s: {statistics.connecting.count:,} connections, {statistics.pairs:,} pairs, "
        f"{statistics.received:,} messages, {statistics.checker.faults.total:,} faults"
    )
