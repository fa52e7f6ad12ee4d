"""Tokens: each is good once, for its own holder, and none can be read from what is kept."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from curhat_trio.resumption import Resumptions


class TokensAgainstADictionary(RuleBasedStateMachine):
    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.resumptions: Resumptions[int] = Resumptions()
        self.good: dict[str, int] = {}
        self.ever: set[str] = set()

    @rule(target=tokens, holder=st.integers(0, 3))
    def issue(self, holder: int) -> str:
        token = self.resumptions.issue(holder)
        assert token not in self.ever
        assert len(token) >= 43, "256 bits"
        self.ever.add(token)
        self.good[token] = holder
        return token

    @rule(token=tokens | st.text(max_size=50))
    def claim(self, token: str) -> None:
        assert self.resumptions.claim(token) == self.good.pop(token, None)

    @rule(token=tokens)
    def revoke(self, token: str) -> None:
        self.resumptions.revoke(token)
        self.good.pop(token, None)

    @invariant()
    def only_the_good_ones_are_kept_and_not_in_plain(self) -> None:
        assert len(self.resumptions._holders) == len(self.good)
        assert not {token.encode() for token in self.good} & self.resumptions._holders.keys()


TestTokensAgainstADictionary = TokensAgainstADictionary.TestCase
