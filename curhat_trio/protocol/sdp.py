"""The little that must be read in SDP: which ICE generation a description or a candidate belongs to."""

import re

from curhat_trio.protocol.messages import Description, IceCandidate

_ICE_UFRAG = re.compile(r"^a=ice-ufrag:([^\s]{1,256})", re.MULTILINE)
_CANDIDATE_UFRAG = re.compile(r" ufrag ([^\s]{1,256})")


def description_ufrags(description: Description) -> frozenset[str]:
    """The ICE user fragments (RFC 8839, section 5.4) of a description: usually one, with BUNDLE."""
    return frozenset(_ICE_UFRAG.findall(description.sdp))


def candidate_ufrag(candidate: IceCandidate) -> str | None:
    """The user fragment that a candidate names, in its own field or as an extension of its line; else None."""
    if candidate.usernameFragment:
        return candidate.usernameFragment
    found = _CANDIDATE_UFRAG.search(candidate.candidate)
    return found[1] if found else None
