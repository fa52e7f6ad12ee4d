"""The parts of SDP that the server has to parse: ICE user fragments, and addresses.

Under the policy `relay` partners must not learn each other's addresses, but not every client conceals its own:
legacy clients do not know the policy. So this module removes all addresses from descriptions and candidates,
except those of relays. It passes on only what it recognizes: a line that it does not understand may be one that
the partner's browser does.
"""

import re
from ipaddress import ip_address

import attrs

from curhat_trio.protocol.messages import Description, IceCandidate

_ICE_UFRAG = "a=ice-ufrag:"
_FRAGMENT = re.compile(r"[^\s]{1,256}")
_CANDIDATE_UFRAG = re.compile(r" ufrag ([^\s]{1,256})")


def description_ufrags(description: Description) -> frozenset[str]:
    """The ICE user fragments (RFC 8839, section 5.4) of a description: usually one, with BUNDLE."""
    sdp, ufrags = description.sdp, []
    at = sdp.find(_ICE_UFRAG)
    while at >= 0:  # a regular expression examines each character of 5 kB, and takes eight times as long
        after = at + len(_ICE_UFRAG)
        if (at == 0 or sdp[at - 1] == "\n") and (found := _FRAGMENT.match(sdp, after)):
            ufrags.append(found[0])
        at = sdp.find(_ICE_UFRAG, after)
    return frozenset(ufrags)


def candidate_ufrag(candidate: IceCandidate) -> str | None:
    """The ICE user fragment of a candidate, from its own field or its line's extensions; None if it has none."""
    if candidate.usernameFragment:
        return candidate.usernameFragment
    found = _CANDIDATE_UFRAG.search(candidate.candidate)
    return found[1] if found else None


# ---------------------------------------------------------------- relay candidates

_ICE_CHARACTERS = r"[A-Za-z0-9+/]"
"""RFC 8839, section 5.1: `ice-char`. No address can be written with these characters."""

_RELAY_CANDIDATE = re.compile(
    rf"(?P<head>candidate:{_ICE_CHARACTERS}{{1,32}} [0-9]{{1,3}} [A-Za-z]{{1,16}} [0-9]{{1,10}}) "
    r"(?P<address>[0-9A-Fa-f:.]{2,45}) (?P<port>[0-9]{1,5}) typ relay"
    r"(?P<raddr> raddr [^ ]+)?(?P<rport> rport [^ ]+)?(?P<extensions>(?: [^ ]+ [^ ]+)*)"
)
"""RFC 8839, section 5.1: `candidate-attribute`, restricted to the forms that browsers use."""

_EXTENSIONS = {
    "generation": re.compile(r"[0-9]{1,10}"),
    "ufrag": re.compile(rf"{_ICE_CHARACTERS}{{1,256}}"),
    "tcptype": re.compile(r"active|passive|so"),
}
"""The `cand-extension`s that are passed on. Receivers ignore those they do not know (RFC 8839, section 5.1)."""

_NAMES_AN_ADDRESS = re.compile(
    r"[0-9]{1,4}(?:\.[0-9]{1,4}){3}"
    r"|::"
    r"|(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}"
)
"""Anything that looks like an IPv4 or IPv6 address (RFC 4291, section 2.2), at any position."""

_PLAIN = re.compile(r"[ -~]*")


def relay_only_candidate(candidate: IceCandidate) -> IceCandidate | None:
    """A relay candidate without its related address; None for other candidates, and for those that do not parse.

    The end-of-candidates indication has an empty line, and so no address.
    """
    line = _relay_only_line(candidate.candidate) if candidate.candidate else ""
    fragment, mid = candidate.usernameFragment or "", candidate.sdpMid or ""
    if line is None or (fragment and not _EXTENSIONS["ufrag"].fullmatch(fragment)):
        return None
    if not _PLAIN.fullmatch(mid) or _NAMES_AN_ADDRESS.search(mid):
        return None
    return attrs.evolve(candidate, candidate=line)


def _relay_only_line(line: str) -> str | None:
    """A `candidate:` line in the form that may be passed on; None if it may not."""
    found = _RELAY_CANDIDATE.fullmatch(line)
    if found is None or not _is_address(found["address"]):
        return None
    related = " raddr 0.0.0.0" * bool(found["raddr"]) + " rport 0" * bool(found["rport"])
    words = found["extensions"].split()
    extensions = "".join(
        f" {name} {value}"
        for name, value in zip(words[::2], words[1::2], strict=True)
        if name in _EXTENSIONS and _EXTENSIONS[name].fullmatch(value)
    )
    return f"{found['head']} {found['address']} {found['port']} typ relay{related}{extensions}"


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# ---------------------------------------------------------------- descriptions without addresses

_LINE = re.compile(r"([^\r\n]+)(\r?\n|\r|\Z)")
"""A line and its end: CRLF. Parsers also accept a single LF (RFC 8866, section 5), and some a single CR."""

_FORM = re.compile(r"[a-z]=[ -~]*")
"""`type=value`. In WebRTC these are printable ASCII characters."""

_ORIGIN = re.compile(r"o=[^ ]+ ([0-9]{1,20}) ([0-9]{1,20}) IN IP[46] [^ ]+")
_CONNECTION = re.compile(r"c=IN (?:IP6 ::|IP[46] [^ ]{7,})")
_MEDIA = re.compile(r"(m=[a-z]+) ([0-9]{1,5})((?: [!-~]+)*)")
_RTCP = re.compile(r"a=rtcp:[0-9]{1,5}(?: IN IP[46] [^ ]{7,})?")
_FINGERPRINT = re.compile(r"a=fingerprint:[A-Za-z0-9-]+ [0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){15,}")
"""RFC 8122, section 5: no hash has fewer than sixteen bytes, and an IPv6 address has eight groups."""


def relay_only_description(description: Description) -> Description:
    """A description that contains no addresses except those of relay candidates.

    Mandatory addresses are replaced by 0.0.0.0 and port 9, which JSEP uses when there is none yet (RFC 8829,
    section 5.2.1). Malformed lines, and lines with an address that is not mandatory, are removed. The result
    exceeds the original by a few characters at most, because the partner's queue is sized for the largest allowed
    message.
    """
    lines = ["v=0\r\n"]
    origin = False
    for line, end in _LINE.findall(description.sdp):
        if line.startswith(("v=", "s=")) or (line.startswith("o=") and origin):
            continue
        shown = _relay_only_sdp_line(line)
        if shown is None:
            continue
        ending = end if end.endswith("\n") else "\n"
        lines.append(shown + ending)
        if line.startswith("o="):
            origin = True
            lines.append("s=-\r\n")
    return attrs.evolve(description, sdp="".join(lines))


def _relay_only_sdp_line(line: str) -> str | None:
    """A line in the form that may be passed on; None if it may not."""
    if not _FORM.fullmatch(line):
        return None
    kind = line.lower()
    if kind.startswith("a=candidate"):
        shown = _relay_only_line(line[2:])
        return None if shown is None else f"a={shown}"
    if kind.startswith("a=remote-candidates"):  # RFC 8839, section 5.2: the addresses of both sides
        return None
    if line.startswith("o="):  # RFC 8866, section 5.2: the user's name and address; RFC 8829, section 5.2.1
        found = _ORIGIN.fullmatch(line)
        return found and f"o=- {found[1]} {found[2]} IN IP4 0.0.0.0"
    if line.startswith("c="):  # RFC 8866, section 5.7: where media is to be sent
        found = _CONNECTION.fullmatch(line)
        return found and ("c=IN IP6 ::" if line == "c=IN IP6 ::" else "c=IN IP4 0.0.0.0")
    if line.startswith("m="):  # RFC 8866, section 5.14: port 0 refuses the section
        found = _MEDIA.fullmatch(line)
        if found is None or _NAMES_AN_ADDRESS.search(line):
            return None
        return f"{found[1]} {'9' if int(found[2]) else '0'}{found[3]}"
    if kind.startswith("a=rtcp:"):  # RFC 3605, section 2.1: where control packets are to be sent
        found = _RTCP.fullmatch(line)
        return found and ("a=rtcp:9 IN IP4 0.0.0.0" if " " in line else "a=rtcp:9")
    if _FINGERPRINT.fullmatch(line):
        return line
    return None if _NAMES_AN_ADDRESS.search(line) else line
