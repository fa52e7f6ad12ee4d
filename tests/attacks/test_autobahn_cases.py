"""The cases of the Autobahn test suite, played by kosoku against connections that send every message back.

What this server does otherwise is listed here with its reason, and with the close code that such a client gets.
The cases 12.* and 13.* are about compression, which is not offered.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
import trio
from kosoku import FailureError, run_fuzzingclient

from curhat_trio.protocol.errors import CloseCode
from curhat_trio.transport import StreamTransport, Transport, transport_of
from tests.attacks.echo import echo_server

REFUSED = {
    r"1\.2\.\d": CloseCode.UNSUPPORTED_DATA,
    r"9\.[2468]\.\d": CloseCode.UNSUPPORTED_DATA,
    r"9\.3\.[1-5]": CloseCode.MESSAGE_TOO_BIG,
}
"""Binary messages, of which the protocol has none; and messages in more than `MAX_FRAGMENTS` fragments."""

LATE = r"6\.4\.[1-4]"
"""Text that is no UTF-8 is noticed when the message is whole, and not within it. RFC 6455, section 8.1, does not
ask for more; no message is long enough here for the difference to matter."""

UNDEFINED = r"7\.1\.6|7\.13\.[12]"
"""Cases that the RFC leaves open: data after a close frame, and close codes above 4999."""


async def played(port: int) -> list[Any]:
    def play() -> list[Any]:
        address = f"ws://127.0.0.1:{port}"
        try:
            return asyncio.run(_awaited(run_fuzzingclient(address, None, ["12.*", "13.*"], concurrency=4)))
        except FailureError as failure:
            return list(failure.results)

    return await trio.to_thread.run_sync(play)


async def _awaited(run: Any) -> Any:
    return await run


def refused_with(case: str) -> CloseCode | None:
    codes = [code for pattern, code in REFUSED.items() if re.fullmatch(pattern, case)]
    return codes[0] if codes else None


def verdict(result: Any) -> tuple[str, str]:
    return result.behavior.value, result.behavior_close.value


@pytest.mark.parametrize("transport", [transport_of, StreamTransport], ids=["socket", "stream"])
async def test_every_autobahn_case_with_a_verdict_passes(
    transport: Callable[[trio.SocketStream], Transport],
) -> None:
    async with echo_server(transport=transport) as port:
        results = await played(port)
    judged = {result.case_id: result for result in results}
    assert len(judged) > 290
    refused = {case: code for case in judged if (code := refused_with(case)) is not None}
    assert len(refused) == 40
    for case, code in refused.items():
        assert (judged[case].passed, judged[case].remote_close_code) == (False, code), case
    for case in judged.keys() - refused.keys():
        expected = ("OK", "OK")
        if re.fullmatch(LATE, case):
            expected = ("NON-STRICT", "OK")
        elif re.fullmatch(UNDEFINED, case):
            expected = ("INFORMATIONAL", "INFORMATIONAL")
        result = judged[case]
        assert verdict(result) == expected, (case, result.result, result.result_close, result.expectation)
