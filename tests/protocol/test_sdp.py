"""What the server parses of SDP, and that under the policy `relay` only addresses of relays are passed on.

The samples have the form that Chromium and Firefox write. The properties at the end generate arbitrary input with
addresses in every notation, and search the output for addresses by other means than the server's own code.
"""

import json
import re
from ipaddress import ip_address

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from curhat_trio.protocol.messages import Description, IceCandidate
from curhat_trio.protocol.sdp import (
    candidate_ufrag,
    description_ufrags,
    relay_only_candidate,
    relay_only_description,
)

FINGERPRINT = "a=fingerprint:sha-256 " + ":".join(f"{byte:02X}" for byte in range(32))

CHROMIUM = f"""v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS 5e0b6b40-5a5e-4d0c-8c0f-3f3f3f3f3f3f
m=audio 54321 UDP/TLS/RTP/SAVPF 111 63
c=IN IP4 203.0.113.5
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1 1 udp 2122260223 192.168.1.7 54321 typ host generation 0 network-id 1 network-cost 10
a=candidate:2 1 udp 2122260223 7ab9e5f2-1c3d-4f5a-9b8c-7d6e5f4a3b2c.local 54322 typ host generation 0
a=candidate:3 1 udp 1686052607 203.0.113.5 54321 typ srflx raddr 192.168.1.7 rport 54321 generation 0
a=candidate:4 1 udp 41885439 198.51.100.4 60000 typ relay raddr 203.0.113.5 rport 54321 generation 0 network-id 3
a=candidate:5 1 udp 41885439 2001:db8::4 60001 typ relay raddr 2001:db8::5 rport 54321 generation 0
a=ice-ufrag:Zx9k
a=ice-pwd:asd88fgpdd777uzjYhagZgasd88fgpdd
a=ice-options:trickle
{FINGERPRINT}
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=sendrecv
a=msid:5e0b6b40-5a5e-4d0c-8c0f-3f3f3f3f3f3f 6f1c7c51-6b6f-4e1d-9d10-4a4a4a4a4a4a
a=rtcp-mux
a=rtcp-fb:111 transport-cc
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=ssrc:2231627014 cname:Hn4AC0dmBmaBVKNu
m=application 0 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP6 2001:db8::5
a=remote-candidates:1 203.0.113.5 54321
a=sctp-port:5000
"""

CHROMIUM_SHOWN = f"""v=0
o=- 4611731400430051336 2 IN IP4 0.0.0.0
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS 5e0b6b40-5a5e-4d0c-8c0f-3f3f3f3f3f3f
m=audio 9 UDP/TLS/RTP/SAVPF 111 63
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:4 1 udp 41885439 198.51.100.4 60000 typ relay raddr 0.0.0.0 rport 0 generation 0
a=candidate:5 1 udp 41885439 2001:db8::4 60001 typ relay raddr 0.0.0.0 rport 0 generation 0
a=ice-ufrag:Zx9k
a=ice-pwd:asd88fgpdd777uzjYhagZgasd88fgpdd
a=ice-options:trickle
{FINGERPRINT}
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=sendrecv
a=msid:5e0b6b40-5a5e-4d0c-8c0f-3f3f3f3f3f3f 6f1c7c51-6b6f-4e1d-9d10-4a4a4a4a4a4a
a=rtcp-mux
a=rtcp-fb:111 transport-cc
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=ssrc:2231627014 cname:Hn4AC0dmBmaBVKNu
m=application 0 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=sctp-port:5000
"""

FIREFOX = f"""v=0
o=mozilla...THIS_IS_SDPARTA-99.0 6640193512461412000 0 IN IP4 0.0.0.0
s=-
t=0 0
{FINGERPRINT}
a=group:BUNDLE 0
a=ice-options:trickle
a=msid-semantic:WMS *
m=video 9 UDP/TLS/RTP/SAVPF 120 124
c=IN IP4 0.0.0.0
a=candidate:0 1 UDP 92086015 198.51.100.4 60000 typ relay raddr 198.51.100.4 rport 60000
a=end-of-candidates
a=rtcp:9
a=ssrc:1 cname:{{5e0b6b40-5a5e-4d0c-8c0f-3f3f3f3f3f3f}}
"""


def crlf(text: str) -> str:
    return text.replace("\n", "\r\n")


def shown(sdp: str) -> str:
    """What the partner may see of a description."""
    return relay_only_description(Description("offer", sdp)).sdp


def shown_line(line: str) -> str | None:
    """What the partner may see of one line, between two that it does."""
    before, after = "v=0\r\na=before\r\n", "a=after\r\n"
    result = shown(f"{before}{line}\r\n{after}")
    assert result.startswith(before)
    assert result.endswith(after)
    return result[len(before) : -len(after)].removesuffix("\r\n") or None


def shown_candidate(line: str, mid: str | None = "0", ufrag: str | None = "Zx9k") -> str | None:
    result = relay_only_candidate(IceCandidate(line, mid, 0, ufrag))
    assert result is None or (result.sdpMid, result.sdpMLineIndex, result.usernameFragment) == (mid, 0, ufrag)
    return None if result is None else result.candidate


# ---------------------------------------------------------------- descriptions


@pytest.mark.shows("P-6.6")
def test_addresses_are_removed_from_a_description_of_chromium() -> None:
    assert shown(crlf(CHROMIUM)) == crlf(CHROMIUM_SHOWN)


def test_addresses_are_removed_from_a_description_of_firefox() -> None:
    result = FIREFOX.replace("mozilla...THIS_IS_SDPARTA-99.0", "-")
    result = result.replace("raddr 198.51.100.4 rport 60000", "raddr 0.0.0.0 rport 0")
    assert shown(crlf(FIREFOX)) == crlf(result)


@pytest.mark.parametrize("sample", [CHROMIUM, FIREFOX], ids=["Chromium", "Firefox"])
def test_a_description_without_addresses_is_not_changed_again(sample: str) -> None:
    once = shown(crlf(sample))
    assert shown(once) == once


def test_the_type_and_the_user_fragment_are_kept() -> None:
    result = relay_only_description(Description("answer", crlf(CHROMIUM)))
    assert result.type == "answer"
    assert description_ufrags(result) == {"Zx9k"}


@pytest.mark.parametrize("end", ["\n", "\r", "\r\r\n", "\n\n"], ids=repr)
def test_other_line_endings_are_accepted(end: str) -> None:
    result = shown(CHROMIUM.replace("\n", end))
    assert result.replace("\r", "") == CHROMIUM_SHOWN


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("a=rtcp:9", "a=rtcp:9"),
        ("a=rtcp:54321", "a=rtcp:9"),
        ("a=rtcp:54321 IN IP4 203.0.113.5", "a=rtcp:9 IN IP4 0.0.0.0"),
        ("a=rtcp:54321 IN IP6 2001:db8::5", "a=rtcp:9 IN IP4 0.0.0.0"),
        ("a=rtcp:54321 IN IP4 ani.example", "a=rtcp:9 IN IP4 0.0.0.0"),
        ("c=IN IP4 ani.example", "c=IN IP4 0.0.0.0"),
        ("c=IN IP4 224.2.1.1/127/3", "c=IN IP4 0.0.0.0"),
        ("c=IN IP6 ::", "c=IN IP6 ::"),
        ("m=audio 9", "m=audio 9"),
        ("m=audio 54321 RTP/SAVPF 111", "m=audio 9 RTP/SAVPF 111"),
        ("m=audio 00000 RTP/SAVPF 111", "m=audio 0 RTP/SAVPF 111"),
        (FINGERPRINT, FINGERPRINT),
        (FINGERPRINT.lower(), FINGERPRINT.lower()),
        ("a=fingerprint:sha-1 " + "AB:" * 19 + "CD", "a=fingerprint:sha-1 " + "AB:" * 19 + "CD"),
        ("a=x-version:1.2.3", "a=x-version:1.2.3"),
    ],
)
def test_these_lines_are_kept(line: str, result: str) -> None:
    assert shown_line(line) == result


@pytest.mark.parametrize(
    "line",
    [
        "s=203.0.113.5",
        "i=call me at 203.0.113.5",
        "a=x:203.0.113.5:9",
        "a=x-203.0.113.5-",
        "a=x:0203.000.0113.05",
        "a=x:2001:db8::5",
        "a=x:[2001:DB8:0:0:0:0:0:5]",
        "a=x:2001:0db8:0000:0000:0000:0000:0000:0005",
        "a=x:fe80::1%eth0",
        "a=x:::ffff:203.0.113.5",
        "a=ssrc:1 cname:ani@203.0.113.5",
        "a=source-filter: incl IN IP4 * 203.0.113.5",
        "a=remote-candidates:1 203.0.113.5 9",
        "a=Remote-Candidates:1 ani.example 9",
        "a=mid:203.0.113.5",
        "m=203.0.113.5 9 RTP/SAVPF 111",
        "m=audio 9 RTP/203.0.113.5 111",
        "m=audio 9 RTP/SAVPF 2001:db8::5",
        "m=audio 1.2 RTP/SAVPF 111",
        "c=IN IP4 a",
        "c=IN IP4 ",
        "c=IN  IP4 203.0.113.5",
        "c=OUT IP4 203.0.113.5",
        "c=IN IP4 203.0.113.5 203.0.113.5",
        "a=rtcp:9 IN IP4",
        "a=RTCP:9 IN IP4 ani.example",
        "a=rtcp:9 IN IP4 203.0.113.5 x",
        "a=fingerprint:sha-256 2001:0db8:0:0:0:0:0:5",
        "a=fingerprint:sha-256 " + "AB:" * 7 + "CD",
        "a=fingerprint:sha-256 203.0.113.5 " + "AB:" * 31 + "CD",
        "A=x",
        " a=x",
        "a =x",
        "a",
        "candidate:1 1 udp 1 203.0.113.5 9 typ host",
        "a=x\ty",
        "a=x\x00",
        "a=x\u2028a=candidate:1 1 udp 1 ani.local 9 typ host",
        "a=caf\u00e9",
        "a=\u0661.2.3.4",
    ],
)
def test_these_lines_are_removed(line: str) -> None:
    assert shown_line(line) is None


@pytest.mark.parametrize("sdp", ["x", "\r\n", "\u00e9", "{}", "203.0.113.5"])
def test_of_an_invalid_description_only_the_version_line_is_left(sdp: str) -> None:
    assert shown(sdp) == "v=0\r\n"


def test_there_is_one_version_line_and_one_origin() -> None:
    twice = "v=0\r\no=ani 1 2 IN IP4 203.0.113.5\r\ns=mine\r\n" * 3
    assert shown(twice) == "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\n"


@pytest.mark.parametrize(
    "line", ["o=- 1 2 IN IP4", "o=- x 2 IN IP4 203.0.113.5", "o=- 203.0.113.5 2 IN IP4 x", "o=203.0.113.5"]
)
def test_a_malformed_origin_is_removed(line: str) -> None:
    assert shown(f"v=0\r\n{line}\r\na=x\r\n") == "v=0\r\na=x\r\n"


# ---------------------------------------------------------------- candidates

HEAD = "candidate:1 1 udp 41885439"


@pytest.mark.shows("P-6.5")
@pytest.mark.parametrize(
    ("line", "result"),
    [
        (f"{HEAD} 198.51.100.4 9 typ relay", f"{HEAD} 198.51.100.4 9 typ relay"),
        (
            f"{HEAD} 198.51.100.4 9 typ relay raddr 203.0.113.5 rport 54321",
            f"{HEAD} 198.51.100.4 9 typ relay raddr 0.0.0.0 rport 0",
        ),
        (
            f"{HEAD} 2001:db8::4 9 typ relay raddr ani.local rport 1 generation 0 ufrag Zx9k network-id 3",
            f"{HEAD} 2001:db8::4 9 typ relay raddr 0.0.0.0 rport 0 generation 0 ufrag Zx9k",
        ),
        (
            f"{HEAD} 198.51.100.4 9 typ relay x 203.0.113.5 raddr 203.0.113.5",
            f"{HEAD} 198.51.100.4 9 typ relay",
        ),
        (
            f"{HEAD} 198.51.100.4 9 typ relay ufrag 203.0.113.5 generation 1.2 tcptype active",
            f"{HEAD} 198.51.100.4 9 typ relay tcptype active",
        ),
    ],
)
def test_relay_candidates_are_kept_without_their_related_address(line: str, result: str) -> None:
    assert shown_candidate(line) == result
    assert shown_line(f"a={line}") == f"a={result}"


@pytest.mark.shows("P-6.5")
@pytest.mark.parametrize(
    "line",
    [
        f"{HEAD} 203.0.113.5 9 typ host",
        f"{HEAD} 203.0.113.5 9 typ srflx raddr 192.168.1.7 rport 9",
        f"{HEAD} 203.0.113.5 9 typ prflx raddr 192.168.1.7 rport 9",
        f"{HEAD} 7ab9e5f2-1c3d-4f5a-9b8c-7d6e5f4a3b2c.local 9 typ host",
        f"{HEAD} ani.local 9 typ relay",
        f"{HEAD} ani.example 9 typ relay",
        f"{HEAD} fe80::1%eth0 9 typ relay",
        f"{HEAD} 203.0.113 9 typ relay",
        f"{HEAD} 203.0.113.0x5 9 typ relay",
        f"{HEAD} 3405803781 9 typ relay",
        f"{HEAD} 203.0.113.5 9 TYP relay",
        f"{HEAD} 203.0.113.5 9 typ Relay",
        f"{HEAD} 203.0.113.5 9 typ relayed",
        f"{HEAD} 203.0.113.5 9 typ host typ relay",
        f"{HEAD} 203.0.113.5 9 typ relay x",
        f"{HEAD} 203.0.113.5 9 typ  relay",
        f"{HEAD} 203.0.113.5 9 typ relay ",
        f"{HEAD} 203.0.113.5 9 typ relay\n",
        f"{HEAD} 203.0.113.5 9 typ relay\r\na=candidate:1 1 udp 1 203.0.113.5 9 typ host",
        f"{HEAD} 203.0.113.5\t9 typ relay",
        f" {HEAD} 203.0.113.5 9 typ relay",
        f"{HEAD.upper()} 203.0.113.5 9 typ relay",
        "candidate:203.0.113.5 1 udp 1 198.51.100.4 9 typ relay",
        "candidate:1 1 udp",
        "candidate:",
        " ",
        "203.0.113.5",
    ],
)
def test_all_other_candidates_are_dropped(line: str) -> None:
    assert shown_candidate(line) is None
    if "\n" not in line:
        assert "203.0.113.5" not in (shown_line(f"a={line}") or "")


def test_the_end_of_candidates_is_kept() -> None:
    assert shown_candidate("") == ""
    assert shown_candidate("", mid=None, ufrag=None) == ""


@pytest.mark.parametrize(
    ("mid", "ufrag"),
    [("203.0.113.5", None), ("x\r\nc=IN IP4 x", None), ("caf\u00e9", None), ("0", "203.0.113.5"), ("0", "a b")],
)
@pytest.mark.parametrize("line", [f"{HEAD} 198.51.100.4 9 typ relay", ""])
def test_a_candidate_with_an_address_in_another_field_is_dropped(line: str, mid: str, ufrag: str | None) -> None:
    assert shown_candidate(line, mid, ufrag) is None


def test_the_user_fragment_of_a_candidate_is_kept() -> None:
    line = f"{HEAD} 198.51.100.4 9 typ relay raddr 203.0.113.5 rport 9 generation 0 ufrag b2 network-cost 10"
    result = relay_only_candidate(IceCandidate(line, "0", 0))
    assert result is not None
    assert candidate_ufrag(result) == "b2"


# ---------------------------------------------------------------- arbitrary input

V4, V6 = st.ip_addresses(v=4), st.ip_addresses(v=6)
ADDRESSES = st.one_of(
    V4.map(str),
    V4.map(lambda address: f"::ffff:{address}"),
    V6.map(str),
    V6.map(lambda address: address.exploded),
    V6.map(lambda address: str(address).upper()),
    V6.map(lambda address: f"{address}%eth0"),
    V6.map(lambda address: f"[{address}]"),
)
SPACES = st.sampled_from([" ", " ", " ", " ", "\t", "  ", ""])
ENDS = st.sampled_from(["\r\n", "\r\n", "\n", "\r", "\n\r", "\x00", "\x0b", "\x85", "\u2028", " ", ""])
WORDS = st.one_of(
    ADDRESSES,
    ADDRESSES,
    st.sampled_from(
        [
            *[
                "candidate:1",
                "a=candidate:1",
                "candidate:",
                "1",
                "9",
                "0",
                "udp",
                "UDP",
                "tcp",
                "typ",
                "host",
                "relay",
            ],
            *[
                "srflx",
                "raddr",
                "rport",
                "ufrag",
                "generation",
                "tcptype",
                "network-id",
                "IN",
                "IP4",
                "IP6",
                "-",
                "x.local",
            ],
            *["audio", "RTP/SAVPF", "sha-256", "AB:CD", "ani.example"],
        ]
    ),
    st.text(st.sampled_from("0123456789abcdefABCDEF.:%[]/"), max_size=8),
    st.text(max_size=4),
)
STARTS = st.sampled_from(
    [
        *[
            "v=",
            "o=",
            "s=",
            "i=",
            "c=",
            "m=",
            "a=",
            "A=",
            "b=",
            "x",
            "",
            "a=candidate:",
            "a=Candidate:",
            "a=rtcp:",
        ],
        *[
            "a=remote-candidates:",
            "a=fingerprint:",
            "a=ssrc:",
            "a= candidate:",
            "c=IN IP4 ",
            "c=IN IP6 ",
            "a=mid:",
        ],
        *["o=- 1 1 IN IP4 ", "a=rtcp:9 IN IP4 ", "m=audio 9 RTP/SAVPF ", "a=candidate:1 1 udp 1 "],
    ]
)


@st.composite
def anything_like_a_line(draw: st.DrawFn) -> str:
    parts = [draw(STARTS)]
    for word in draw(st.lists(WORDS, max_size=10)):
        parts += [word, draw(SPACES)]
    return "".join(parts)


@st.composite
def nearly_a_candidate(draw: st.DrawFn) -> str:
    """A candidate with a few of its words replaced, removed or repeated."""
    kind = draw(st.sampled_from(["host", "srflx", "relay", "relay", "relay"]))
    line = (
        f"candidate:1 1 udp 1 {draw(ADDRESSES)} 9 typ {kind} raddr {draw(ADDRESSES)} rport 9 ufrag x generation 0"
    )
    words = line.split(" ")
    for _ in range(draw(st.sampled_from([0, 0, 1, 2, 3]))):
        place = draw(st.integers(0, len(words) - 1))
        words[place : place + 1] = draw(st.lists(WORDS, max_size=2))
        words = words or [""]
    return draw(st.sampled_from(["", "", "a=", " "])) + " ".join(words)


LINES = anything_like_a_line() | nearly_a_candidate().map("a={}".format)
"""Lines that resemble those of a description."""
DESCRIPTIONS = st.lists(st.tuples(LINES, ENDS), max_size=8).map(lambda lines: "".join(map("".join, lines)))

DUMMIES = {ip_address("0.0.0.0"), ip_address("::")}
RELAY_LINE = re.compile(r"(?:a=)?candidate:[^ ]+ [0-9]+ [A-Za-z]+ [0-9]+ ([^ ]+) [0-9]+ typ relay(?: [ -~]*)?")


def addresses_in(text: str) -> set[object]:
    """Every address at any position of a text, whatever surrounds it."""
    found: set[object] = set()
    for run in re.findall(r"[0-9A-Fa-f.:]{2,}", text):
        for start in range(len(run)):
            for end in range(start + 2, min(len(run), start + 45) + 1):
                try:
                    found.add(ip_address(run[start:end]))
                except ValueError:
                    continue
    return found


def revealed_addresses(text: str) -> set[object]:
    """The addresses in the output, except those of relays, hashes, and the placeholders for no address."""
    found: set[object] = set()
    for line in re.split(r"[\r\n\x00-\x1f\x85\u2028\u2029]", text):
        if re.fullmatch(r"a=fingerprint:\S+ (..:){15,}..", line):
            continue
        if relay := RELAY_LINE.fullmatch(line):
            ip_address(relay[1])
            event("a relay is shown")
            found |= addresses_in(line.replace(f" {relay[1]} ", " ", 1))
        else:
            found |= addresses_in(line)
    return found - DUMMIES


@pytest.mark.shows("P-6.6")
@given(DESCRIPTIONS)
def test_no_description_reveals_an_address(sdp: str) -> None:
    if not sdp:
        return
    result = shown(sdp)
    assert revealed_addresses(result) == set()
    assert ".local" not in "".join(line for line in result.splitlines() if "candidate" in line)
    assert shown(result) == result
    assert result.isascii()
    assert len(json.dumps(result)) <= 1.1 * len(json.dumps(sdp)) + 60, (
        "otherwise the partner's queue could overflow"
    )


@pytest.mark.shows("P-6.5")
@given(
    anything_like_a_line() | nearly_a_candidate(),
    st.none() | WORDS | st.just("0"),
    st.none() | WORDS | st.just("Zx9k"),
)
def test_no_candidate_reveals_an_address(line: str, mid: str | None, ufrag: str | None) -> None:
    result = relay_only_candidate(IceCandidate(line[:1024], mid, 0, ufrag))
    if result is None:
        event("dropped")
        return
    assert revealed_addresses(result.candidate) == set()
    assert addresses_in(f"{result.sdpMid} {result.usernameFragment}") == set()
    assert relay_only_candidate(result) == result


@given(V4.map(str) | V6.map(str), st.sampled_from(CHROMIUM.splitlines()), st.data())
def test_an_address_at_any_position_is_removed(address: str, line: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(line)))
    assert revealed_addresses(shown(crlf(CHROMIUM.replace(line, line[:place] + address + line[place:], 1)))) <= {
        ip_address("198.51.100.4"),
        ip_address("2001:db8::4"),
    }


PIECES = st.sampled_from(
    ["a=ice-ufrag:", "\n", "\r\n", " ", "\x85", "u", "a=", "abc", "a=ice-ufrag:a=ice-ufrag:x", "f" * 300]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_a_user_fragment_starts_at_the_beginning_of_a_line_and_ends_at_whitespace(sdp: str) -> None:
    """Compared with a regular expression."""
    found = re.findall(r"^a=ice-ufrag:([^\s]{1,256})", sdp, re.MULTILINE)
    assert description_ufrags(Description("offer", sdp or "-")) == frozenset(found)
