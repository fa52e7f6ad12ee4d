"""What a server bears: `python tests/benchmarks/load.py [URL] [--clients N] [--seconds S]`.

Many clients of `curhat_trio.client` do for some seconds what people do (tests/crowd.py): come, are paired, offer,
answer, trickle and chat, say `next`, leave, vanish, lose their connections and resume. Then it prints what they
did, and how long words were under way (without candidates, which may have to wait). It also checks what they hear:
a traceback tells of a server that did wrong, or of somebody else on it, for nobody else may be there.

The clients share one process, so when that has used about as much CPU time as the run took, it was the clients
that were slow. The exit status is 2 if nobody could connect.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crowd import Crowd, Member, come_and_go

from curhat_trio.client import CannotConnect, ConnectionEnded

CLIENTS, MOST_CLIENTS = 100, 2000
SECONDS, MOST_SECONDS = 10.0, 3600.0
PERCENTILES = (0.5, 0.9, 0.99, 1.0)


async def run(url: str, clients: int, seconds: float) -> Crowd:
    """So many clients for so long; afterwards they close politely."""
    crowd, members = Crowd(), list[Member]()
    parts = urlsplit(url)
    dial = partial(trio.open_tcp_stream, parts.hostname or "", parts.port or 80)

    async def one(number: int, goes_on: Callable[[], bool], hosts: trio.Nursery) -> None:
        try:
            await come_and_go(url, dial, crowd, random.Random(number), goes_on, hosts, members)
        except (CannotConnect, ConnectionEnded) as error:
            crowd.counts[f"clients that ended: {error}"] += 1

    async with trio.open_nursery() as hosts:
        until = trio.current_time() + seconds
        async with trio.open_nursery() as lives:
            for number in range(clients):
                lives.start_soon(one, number, lambda: trio.current_time() < until, hosts)
        async with trio.open_nursery() as goodbyes:
            for member in members:
                goodbyes.start_soon(member.go)
        hosts.cancel_scope.cancel()  # those whose server has ended them
    return crowd


def table(crowd: Crowd, clients: int, seconds: float, cpu_seconds: float) -> Iterator[str]:
    """The lines to print."""
    yield row("clients", clients)
    yield row("seconds", f"{seconds:.1f}")
    yield row("pairings", len(crowd.pairings))
    for name, count in sorted(crowd.counts.items()):
        yield row(name, count)
    yield row("own CPU time, s", f"{cpu_seconds:.1f}")
    yield ""
    yield row("words under way, ms", *(f"{share:.0%}" for share in PERCENTILES))
    yield row(f"while connected ({len(crowd.latencies)})", *milliseconds(crowd.latencies))
    yield row(f"across a lost connection ({len(crowd.delays)})", *milliseconds(crowd.delays))


def row(name: str, *values: object) -> str:
    return name.ljust(42) + "".join(f"{value:>10}" for value in values)


def milliseconds(times: Sequence[float]) -> Iterator[str]:
    """The percentiles, by nearest rank."""
    ranked = sorted(times)
    for share in PERCENTILES:
        yield f"{1e3 * ranked[max(0, round(share * len(ranked)) - 1)]:.1f}" if ranked else "-"


def between(least: float, most: float, kind: Callable[[str], float]) -> Callable[[str], float]:
    """A number for argparse."""

    def read(text: str) -> float:
        if not least <= (number := kind(text)) <= most:
            raise argparse.ArgumentTypeError(f"expected {least:g} to {most:g}, not {text}")
        return number

    return read


def websocket(text: str) -> str:
    """An address for argparse."""
    parts = urlsplit(text)
    if parts.scheme != "ws" or not parts.hostname:
        raise argparse.ArgumentTypeError(f"expected an address such as ws://127.0.0.1:8080/ws, not {text}")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", type=websocket, default="ws://127.0.0.1:8080/ws")
    parser.add_argument("--clients", type=between(1, MOST_CLIENTS, int), default=CLIENTS, metavar="N")
    parser.add_argument("--seconds", type=between(0, MOST_SECONDS, float), default=SECONDS, metavar="S")
    options = parser.parse_args()

    began, cpu_began = time.monotonic(), time.process_time()
    crowd = trio.run(run, options.url, options.clients, options.seconds)
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu_began
    print("\n".join(table(crowd, options.clients, seconds, cpu_seconds)))
    return 0 if crowd.counts["heard"] else 2


if __name__ == "__main__":
    sys.exit(main())
