"""The results of a run: a dictionary, which is the JSON, and the table made from it."""

from collections.abc import Iterator
from typing import Any

import attrs

from curhat_trio.load.checker import Fault
from curhat_trio.load.measurements import Durations, difference
from curhat_trio.load.plan import LIFTED_LIMITS
from curhat_trio.load.run import Run

_SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_DESCRIPTIONS = {
    Fault.LOST: "lost messages",
    Fault.DUPLICATED: "duplicated messages",
    Fault.REORDERED: "reordered messages",
    Fault.ALTERED: "altered messages",
    Fault.MISROUTED: "misrouted messages",
    Fault.MISATTRIBUTED: "messages with a wrong from or roomId",
    Fault.RATE_LIMITED: "messages over the server's rate limit",
    Fault.REFUSED: "messages refused with another error",
    Fault.UNREADABLE: "messages that are not JSON objects",
    Fault.UNMATCHED: "unmatched clients",
    Fault.MISMATCHED: "clients with more than one partner",
    Fault.STALLED: "stalled conversations",
    Fault.LEFT_EARLY: "pairings that the server ended early",
    Fault.LEAVE_MISSING: "missing leave messages",
    Fault.CLOSED_EARLY: "connections that the server closed early",
    Fault.CLOSE_MISSING: "unanswered closing handshakes",
    Fault.NOT_CONNECTED: "failed connections",
}
_NAME_WIDTH = 40


def summarize(run: Run, url: str, *, interrupted: bool) -> dict[str, Any]:
    """All results. Times are in milliseconds unless the key says otherwise; None means not measured."""
    plan, statistics = run.plan, run.statistics
    faults = statistics.checker.faults
    relaying = run.relaying
    return {
        "url": url,
        "interrupted": interrupted,
        "plan": attrs.asdict(plan),
        "seconds": {"connecting": run.connecting.seconds, "relaying": relaying.seconds},
        "connections": {
            "opened": statistics.connecting.count,
            "idle": statistics.idle,
            "ms": _percentiles(statistics.connecting),
        },
        "matches": {
            "pairs": statistics.pairs,
            "waiting_at_end": statistics.waiting_at_end,
            "ms": _percentiles(statistics.matching),
        },
        "conversations": statistics.conversations,
        "messages": {
            "sent": statistics.sent,
            "received": statistics.received,
            "per_second": _per(statistics.received, relaying.seconds),
            "round_trip_ms": _percentiles(statistics.round_trips),
            "first_answer_ms": _percentiles(statistics.answering),
        },
        "server": _server(run),
        "load": {"cpu_us_per_message": _per(relaying.own_cpu * 1e6, statistics.received)},
        "faults": {fault.value: faults.counts[fault] for fault in Fault},
        "notes": [f"{times} x {note}" for note, times in faults.notes.most_common()],
        "advice": list(_advice(run)),
    }


def has_faults(summary: dict[str, Any]) -> bool:
    """Whether any fault was counted."""
    return any(summary["faults"].values())


def table(summary: dict[str, Any]) -> str:
    """The results as text."""
    return "".join(f"{line}\n" for line in _lines(summary))


def _server(run: Run) -> dict[str, Any] | None:
    if run.plan.server_pid is None:
        return None
    opened = run.opened
    relaying, connecting = run.relaying.server_cpu, run.connecting.server_cpu
    resident = difference(run.resident_idle, run.resident_before)
    return {
        "pid": run.plan.server_pid,
        "cpu_seconds_connecting": connecting,
        "cpu_seconds_relaying": relaying,
        "cpu_us_per_connection": None if connecting is None else _per(connecting * 1e6, opened),
        "cpu_us_per_message": None if relaying is None else _per(relaying * 1e6, run.statistics.received),
        "resident_kib_before": run.resident_before,
        "resident_kib_with_idle": run.resident_idle,
        "kib_per_idle_client": None if resident is None else _per(resident, run.statistics.idle),
    }


def _per(amount: float, count: float) -> float | None:
    return amount / count if count else None


def _percentiles(times: Durations) -> dict[str, float | None]:
    shares = {name: times.percentile(share) for name, share in _SHARES.items()}
    shares["max"] = times.largest if times.count else None
    return {name: None if seconds is None else seconds * 1e3 for name, seconds in shares.items()}


def _advice(run: Run) -> Iterator[str]:
    """What to change so that the results are meaningful."""
    counts = run.statistics.checker.faults.counts
    if counts[Fault.RATE_LIMITED]:
        lifted = " ".join(f"{name}={value}" for name, value in LIFTED_LIMITS.items())
        yield f"The server's rate limit was exceeded. To load a curhat_trio server, start it with {lifted}"
    if run.statistics.relay_only:
        yield (
            "The server's iceTransportPolicy is relay, so it must drop these candidates and alter descriptions; "
            "start it with CURHAT_ICE_TRANSPORT_POLICY=all"
        )
    if run.plan.server_pid is not None and run.connecting.server_cpu is None:
        yield (
            f"CPU time and memory of process {run.plan.server_pid} are unknown: it has ended, or there is no /proc"
        )
    if run.plan.churn and run.plan.server_pid is not None:
        yield "In a churn the CPU time per message includes connecting, joining and closing"


def _lines(summary: dict[str, Any]) -> Iterator[str]:
    plan, messages, matches = summary["plan"], summary["messages"], summary["matches"]
    seconds = summary["seconds"]
    yield f"{summary['url']}: {_describe_plan(plan)}{', interrupted' if summary['interrupted'] else ''}"
    yield ""
    yield _row(
        "connections opened, idle among them", summary["connections"]["opened"], summary["connections"]["idle"]
    )
    yield _row("pairs matched", matches["pairs"])
    yield _row("conversations from join to leave", summary["conversations"])
    if plan["churn"]:
        yield _row("clients waiting at the end of the churn", matches["waiting_at_end"])
    yield _row("messages sent, received", messages["sent"], messages["received"])
    yield _row("messages per second", messages["per_second"])
    yield _row("seconds connecting, relaying", seconds["connecting"], seconds["relaying"])
    yield ""
    yield _row("milliseconds", *_SHARES, "max")
    yield _row("connect", *summary["connections"]["ms"].values())
    yield _row("match, after both have joined", *matches["ms"].values())
    yield _row("first offer to answer", *messages["first_answer_ms"].values())
    yield _row("round trip", *messages["round_trip_ms"].values())
    yield ""
    if (server := summary["server"]) is not None:
        yield _row("server CPU us per connection", server["cpu_us_per_connection"])
        yield _row("server CPU us per message", server["cpu_us_per_message"])
        yield _row("server KiB per idle client", server["kib_per_idle_client"])
        yield _row("server KiB before, with idle clients", *_memory(server))
    yield _row("load generator CPU us per message", summary["load"]["cpu_us_per_message"])
    yield ""
    for fault, count in summary["faults"].items():
        if count:
            yield _row(_DESCRIPTIONS[Fault(fault)], count)
    yield from (f"  {note}" for note in summary["notes"])
    yield from summary["advice"]
    yield "FAULTS" if has_faults(summary) else "no faults"


def _memory(server: dict[str, Any]) -> tuple[object, object]:
    return server["resident_kib_before"], server["resident_kib_with_idle"]


def _describe_plan(plan: dict[str, Any]) -> str:
    """The plan as text."""
    parts = [
        f"{plan['pairs']} pairs ({plan['profile']}), {plan['messages']} messages of {plan['size']} bytes each"
    ]
    parts += [f"in bursts of {plan['burst']}"] if plan["burst"] > 1 else []
    parts += [f"{plan['idle']} idle connections"] if plan["idle"] else []
    parts += [f"churning for {plan['churn']:g} s"] if plan["churn"] else []
    parts += ["all joining at once"] if plan["storm"] else []
    return ", ".join(parts)


def _row(name: str, *values: object) -> str:
    return name.ljust(_NAME_WIDTH) + "".join(f"{_format(value):>12}" for value in values)


def _format(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
