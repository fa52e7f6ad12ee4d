"""The registry of sessions, and tokens that are valid once."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from curhat_trio.protocol.ids import ClientId
from curhat_trio.sessions import Sessions


class SessionsAgainstDictionaries(RuleBasedStateMachine):
    clients = Bundle("clients")
    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.sessions: Sessions[object] = Sessions()
        self.here: dict[ClientId, object] = {}
        self.good: dict[str, ClientId] = {}
        self.ever: set[str] = set()
        self.count = 0

    @rule(target=clients)
    def add(self) -> ClientId:
        self.count += 1
        client = ClientId(f"client {self.count}")
        self.here[client] = object()
        self.sessions.add(client, self.here[client])
        return client

    @rule(client=consumes(clients))
    def remove(self, client: ClientId) -> None:
        self.sessions.remove(client)
        del self.here[client]
        self.revoke(client)

    def revoke(self, client: ClientId) -> None:
        self.good = {token: holder for token, holder in self.good.items() if holder != client}

    @rule(target=tokens, client=clients)
    def issue(self, client: ClientId) -> str:
        token = self.sessions.issue_token(client)
        assert token not in self.ever
        assert len(token) >= 43, "256 bits"
        self.ever.add(token)
        self.revoke(client)
        self.good[token] = client
        return token

    @rule(token=tokens | st.text(max_size=50))
    def claim(self, token: str) -> None:
        holder = self.good.pop(token, None)
        assert self.sessions.claim(token) is (None if holder is None else self.here[holder])

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def the_list_may_change_while_it_is_gone_through(self, data: Any) -> None:
        """As at the end of the server."""
        seen = []
        for session in self.sessions:
            seen.append(session)
            if len(seen) == 1:
                self.add()
        assert seen == list(self.here.values())[:-1]

    @invariant()
    def those_who_are_here_can_be_reached(self) -> None:
        assert len(self.sessions) == len(self.here)
        assert list(self.sessions) == list(self.here.values())
        for client, session in self.here.items():
            assert client in self.sessions
            assert self.sessions.get(client) is session
        assert self.sessions.get(ClientId("unknown")) is None

    @invariant()
    def only_good_tokens_are_kept_and_not_in_plain(self) -> None:
        kept = self.sessions._by_token
        assert len(kept) == len(self.sessions._tokens) == len(self.good)
        assert not {token.encode() for token in self.good} & kept.keys()


TestSessionsAgainstDictionaries = SessionsAgainstDictionaries.TestCase


def test_a_removed_session_has_no_token() -> None:
    sessions: Sessions[object] = Sessions()
    with pytest.raises(KeyError):
        sessions.issue_token(ClientId("unknown"))
