"""What a run is doing, while it does it: one line written over on a terminal, a line now and then elsewhere."""

from typing import TextIO

import trio

from curhat_trio.load.scenario import Run

_REDRAW_SECONDS = 0.2
_LINE_SECONDS = 5.0
_WIDTH = 79


async def show_progress(run: Run, out: TextIO) -> None:
    """Show it until cancelled. A terminal's line is left empty."""
    redraws = out.isatty()
    began, next_line, told = trio.current_time(), 0.0, ""
    try:
        while True:
            await trio.sleep(_REDRAW_SECONDS)
            now = trio.current_time()
            line = describe(run, now - began)
            if redraws:
                out.write(f"\r\x1b[K{line[:_WIDTH]}")
            elif now >= next_line or run.doing != told:
                out.write(f"{line}\n")
                next_line, told = now + _LINE_SECONDS, run.doing
            out.flush()
    finally:
        if redraws:
            out.write("\r\x1b[K")
            out.flush()


def describe(run: Run, seconds: float) -> str:
    """One line."""
    tally = run.tally
    return (
        f"{run.doing}, {seconds:.0f} s: {tally.connecting.count:,} connections, {tally.pairs:,} pairs, "
        f"{tally.heard:,} messages, {tally.ledger.faults.total:,} faults"
    )
