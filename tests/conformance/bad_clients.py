"""Clients that break one rule each, as their docstrings explain: the scripted server must fail them with it.

As a program: `bad_clients.py URL KIND`, for `curhat-trio conform --listen PORT --client-command`.
"""

import json
import os
import sys
from typing import Any
from urllib.parse import urlsplit

import trio
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from tests.conformance.clients import HOST_CANDIDATE, Client, Message


class OffersAsAnswerer(Client):
    """Offers whatever its role."""

    breaks = ("P-5.2",)

    async def on_join(self, message: Message) -> None:
        await super().on_join({**message, "role": "offerer"})


class NeverOffers(Client):
    """Waits for an offer whatever its role."""

    breaks = ("P-5.3", "P-2.15", "P-3.2", "P-3.21", "P-4.8", "P-4.9", "P-4.11")

    async def on_join(self, message: Message) -> None:
        await super().on_join({**message, "role": "answerer"})


class NeverAnswers(Client):
    """Answers no offer."""

    breaks = ("P-5.7", "P-2.15", "P-4.8", "P-5.9", "P-8.4", "P-13.4")

    async def answer(self) -> None:
        pass


class OffersWhilePending(Client):
    """Renegotiates whenever its user wants to."""

    breaks = ("P-5.5",)

    async def renegotiate(self) -> None:
        if self._room is not None:
            await self.offer()


class YieldsThoughImpolite(Client):
    """Answers every offer."""

    breaks = ("P-5.9",)

    def yields(self) -> bool:
        return True


class InsistsThoughPolite(Client):
    """Never rolls back its own offer."""

    breaks = ("P-5.10",)

    def yields(self) -> bool:
        return False


class SendsNoPongs(Client):
    """Has a WebSocket library that answers no pings."""

    breaks = ("P-7.2",)

    async def pong(self, ping: Ping) -> None:
        pass


class IgnoresRooms(Client):
    """Takes every message for one of its partner's."""

    breaks = ("P-4.8", "P-4.10")

    def is_current(self, message: Message) -> bool:
        return self._room is not None


class SendsBinary(Client):
    """Sends its messages as binary ones."""

    breaks = ("P-2.10",)

    async def transmit(self, type: str, fields: dict[str, Any]) -> None:
        await self._send(BytesMessage(json.dumps({"type": type, **fields}).encode()))


class SendsTwoInOne(Client):
    """Sends the end of its candidates in one text message with a ping."""

    breaks = ("P-2.10", "P-6.4")

    async def no_more_candidates(self) -> None:
        end = json.dumps({"type": "candidate", "payload": {"candidate": "", "sdpMid": "0"}})
        await self._send(TextMessage(end + '\n{"type": "ping"}'))


class IgnoresTheSizeLimit(Client):
    """Sends chat of any length."""

    breaks = ("P-2.12", "P-3.2", "P-3.4")

    async def chat(self, text: str) -> None:
        await self.send("chat", text=text)


class SendsManyFrames(Client):
    """Sends its candidates in one frame for each letter."""

    breaks = ("P-2.12", "P-13.4", "P-13.14")

    async def candidates(self) -> None:
        text = json.dumps({"type": "candidate", "payload": {"candidate": f"{HOST_CANDIDATE} ufrag {self._ufrag}"}})
        for position, letter in enumerate("" if self._relay_only else text):
            await self._send(TextMessage(letter, message_finished=position == len(text) - 1))
        await self.no_more_candidates()


class QuitsOnUnknownTypes(Client):
    """Quits when it receives an unknown message."""

    breaks = ("P-2.15", "P-4.11", "P-13.10")

    async def on_unknown_type(self) -> None:
        await self.quit()


class RefusesUnknownFields(Client):
    """Ignores messages with an unknown field."""

    breaks = ("P-2.15",)

    async def handle(self, message: Message) -> None:
        if "later" not in message:
            await super().handle(message)


class ReconnectsAlways(Client):
    """Reconnects after any close code."""

    breaks = ("P-9.2", "P-3.21")

    def reconnects(self, code: int) -> bool:
        return True


class ReconnectsWithoutPause(Client):
    """Reconnects without a pause."""

    breaks = ("P-9.1",)

    def pause(self, attempt: int) -> float:
        return self._retry_after


class ReconnectsWithoutJitter(Client):
    """Doubles its pause exactly."""

    breaks = ("P-9.1",)

    def pause(self, attempt: int) -> float:
        return float(self._retry_after + 0.5 * 2**attempt)


class NeverReconnects(Client):
    """Does not reconnect."""

    breaks = ("P-9.1", "P-3.21")

    def reconnects(self, code: int) -> bool:
        return False


class ReconnectsTooEarly(Client):
    """Ignores `goaway`."""

    breaks = ("P-9.3",)

    async def on_goaway(self, _message: Message) -> None:
        pass


class SendsNoEndOfCandidates(Client):
    """Does not send the end of candidates."""

    breaks = ("P-6.4",)

    async def no_more_candidates(self) -> None:
        pass


class SendsNoUserFragments(Client):
    """Sends candidates without a user fragment."""

    breaks = ("P-6.3",)

    async def candidates(self) -> None:
        if not self._relay_only:
            await self.send("candidate", payload={"candidate": HOST_CANDIDATE, "sdpMid": "0"})
        await self.no_more_candidates()


class LeavesOnErrors(Client):
    """Leaves its partner when it receives an error."""

    breaks = ("P-8.4", "P-2.15", "P-4.9", "P-7.7", "P-9.7")

    async def on_error(self, message: Message) -> None:
        self._forget_partner()


class ClosesOnErrors(Client):
    """Closes when it receives an error."""

    breaks = ("P-8.4", "P-2.15", "P-4.2", "P-4.9", "P-4.11", "P-9.1")

    async def on_error(self, message: Message) -> None:
        await self.quit()


class WaitsForItsOwnLeave(Client):
    """Takes only `leave` for an answer to `leave` and `next`."""

    breaks = ("P-4.9", "P-7.7", "P-8.4", "P-9.7")

    async def on_error(self, message: Message) -> None:
        pass


class OffersNoSubprotocol(Client):
    """Asks for a WebSocket of any kind."""

    breaks = ("P-2.2",)
    subprotocols = ()


class SendsWrongTypes(Client):
    """Sends a number where there must be a string."""

    breaks = ("P-3.4", "P-6.4")

    async def no_more_candidates(self) -> None:
        await self.send("candidate", payload={"candidate": "", "sdpMid": 0})


class ExceedsTheRateLimit(Client):
    """Sends many pings when something is refused."""

    breaks = ("P-7.3",)

    async def on_error(self, message: Message) -> None:
        await super().on_error(message)
        for _ in range(250):
            await self.send("ping")


class IgnoresFeatures(Client):
    """Uses features that the server does not have."""

    breaks = ("P-3.2",)

    async def on_welcome(self, message: Message) -> None:
        await super().on_welcome({**message, "features": [*message["features"], "chat", "next"]})


class QuitsWithoutCloseFrame(Client):
    """Leaves for good without a close frame."""

    breaks = ("P-9.4",)

    async def quit(self) -> None:
        self._wants_partner = False
        if self._stream is not None:
            await self._stream.aclose()


class RendersMarkup(Client):
    """Renders a peer's name as it is: the browser requests the picture in it."""

    breaks = ("P-11.2",)

    async def on_join(self, message: Message) -> None:
        if "<img" in message["username"]:
            path = urlsplit(message["username"].split('"')[1]).path
            async with await self._dial() as stream:
                await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: curhat.test\r\n\r\n".encode())
        await super().on_join(message)


class ResendsNothing(Client):
    """Takes what it has sent for received."""

    breaks = ("P-13.4", "P-13.14")

    async def resend(self, heard: int) -> None:
        pass


class QuitsWhenThePartnerIsAway(Client):
    """Quits when its partner is away."""

    breaks = ("P-13.10", "P-4.11")

    async def on_peer(self, _message: Message) -> None:
        await self.quit()


class PingsBeforeItResumes(Client):
    """Sends something else first."""

    breaks = ("P-13.9",)

    async def on_welcome(self, message: Message) -> None:
        if self._resuming:
            await self.transmit("ping", {})
        await super().on_welcome(message)


class LetsCredentialsExpire(Client):
    """Never refreshes its credentials."""

    breaks = ("P-3.16",)

    async def renew(self, seconds: float, room: str | None) -> None:
        pass


class ReportsNoMediaFailure(Client):
    """Does not report that no media is established."""

    breaks = ("P-3.18",)

    async def media_failed(self) -> None:
        pass


class ReportsMediaTooEarly(Client):
    """Reports media as soon as the negotiation is complete."""

    breaks = ("P-3.18",)

    async def media_failed(self) -> None:
        await self.send("status", media="connected")


class ChatsWhileWaiting(Client):
    """Sends chat while it waits."""

    breaks = ("P-4.10",)

    async def on_ready(self, message: Message) -> None:
        await super().on_ready(message)
        await self.send("chat", text="Is anybody there?")


class ChatsAfterThePairing(Client):
    """Sends chat long after the partner has left."""

    breaks = ("P-4.10",)

    async def on_leave(self, message: Message) -> None:
        await super().on_leave(message)
        if self._timers is not None:
            self._timers.start_soon(self._chat_later)

    async def _chat_later(self) -> None:
        await trio.sleep(6)
        if self._room is None:
            await self.send("chat", text="Goodbye!")


class SendsHostCandidates(Client):
    """Sends host candidates whatever the policy."""

    breaks = ("P-6.7",)

    async def candidates(self) -> None:
        self._relay_only = False
        await super().candidates()


class DescribesHostCandidates(Client):
    """Has host candidates in its descriptions whatever the policy."""

    breaks = ("P-6.7",)

    def description(self, kind: str) -> Message:
        description = super().description(kind)
        return {**description, "sdp": f"{description['sdp']}a={HOST_CANDIDATE}\r\n"}


class KeepsItsOldToken(Client):
    """Resumes with the token of `welcome` again and again."""

    breaks = ("P-13.5",)

    async def on_resumed(self, message: Message) -> None:
        await super().on_resumed({**message, "resumeToken": self._token})


class TakesTheSeqOfResumed(Client):
    """Takes the number of `resumed` for one of the session that continues."""

    breaks = ("P-13.16",)

    async def on_resumed(self, message: Message) -> None:
        self._last_seq = message["seq"]
        await super().on_resumed(message)


class ResendsAll(Client):
    """Sends everything again."""

    breaks = ("P-13.4", "P-13.14")

    async def resend(self, heard: int) -> None:
        await super().resend(self._forgotten)


class MiscountsAfterAPong(Client):
    """Forgets what a pong has counted, and then takes `heard` for a number of those that are left."""

    breaks = ("P-13.4", "P-13.14")

    async def resend(self, heard: int) -> None:
        await super().resend(heard + self._forgotten)


class GivesUpForGood(Client):
    """Closes with 1000 when a pong is late, though it will resume."""

    breaks = ("P-13.12",)

    async def give_up(self) -> None:
        await self._send(CloseConnection(1000))
        if self._stream is not None:
            await self._stream.aclose()


class SendsNothingAgain(Client):
    """Takes a dropped message for sent."""

    breaks = ("P-7.7",)

    async def on_rate_limited(self, type: str, seconds: float) -> None:
        pass


class SendsAgainAtOnce(Client):
    """Does not wait before it sends a dropped message again."""

    breaks = ("P-7.7",)

    async def on_rate_limited(self, type: str, seconds: float) -> None:
        await super().on_rate_limited(type, 0.0)


class ClosesWhenRateLimited(Client):
    """Takes a dropped message for the end."""

    breaks = ("P-8.4",)

    async def on_rate_limited(self, type: str, seconds: float) -> None:
        await self.quit()


class ReconnectsSoonAfterTooManyMessages(Client):
    """Treats 4003 as any other code."""

    breaks = ("P-9.7",)

    async def on_error(self, message: Message) -> None:
        await super().on_error({**message, "fatal": False} if message["fatal"] else message)


class SendsNoMedia(Client):
    """Keeps to itself that the microphone is off."""

    breaks = ("P-3.20",)

    async def send_media(self) -> None:
        pass


class SendsNoMediaToTheNextPartner(Client):
    """Sends the state of the microphone when it changes only."""

    breaks = ("P-3.20",)

    async def on_join(self, message: Message) -> None:
        self._microphone = True
        await super().on_join(message)


class SendsMediaToAnyServer(Client):
    """Sends `media` to servers without that feature."""

    breaks = ("P-3.2",)

    async def send_media(self) -> None:
        await self.send("media", audio=self._microphone, video=True)


class RefusesUnknownFeatures(Client):
    """Quits if a server has more features than it knows."""

    breaks = ("P-3.21",)

    async def on_welcome(self, message: Message) -> None:
        if "telepathy" in message["features"]:
            await self.quit()
        else:
            await super().on_welcome(message)


class IgnoresUnknownReasons(Client):
    """Takes a leave for an unknown reason for none."""

    breaks = ("P-3.21",)

    async def on_leave(self, message: Message) -> None:
        if message["reason"] != "moved_to_another_town":
            await super().on_leave(message)


class QuitsOnUnknownErrors(Client):
    """Takes an unknown error code for a fatal one."""

    breaks = ("P-8.4",)

    async def on_error(self, message: Message) -> None:
        if message["code"] == "unheard_of" and not message["fatal"]:
            await self.quit()
        else:
            await super().on_error(message)


class KnowsNoOtherCloseCodes(Client):
    """Stays away after a temporary close code that it does not know."""

    breaks = ("P-3.21",)

    def reconnects(self, code: int) -> bool:
        return code != 4099 and super().reconnects(code)


class ReconnectsAfterUnknownCodes(Client):
    """Takes every close code that it does not know for a temporary one."""

    breaks = ("P-3.21",)

    def reconnects(self, code: int) -> bool:
        return code in (1008, 3000, 4599) or super().reconnects(code)


class ExpectsItsOwnIds(Client):
    """Ignores answers with an `id` that it has not sent."""

    breaks = ("P-2.15",)

    async def handle(self, message: Message) -> None:
        if "id" not in message:
            await super().handle(message)


class KeepsThePartnerUntilItsLeaveIsAnswered(Client):
    """Does not leave the pairing until the server's answer, and answers offers meanwhile."""

    breaks = ("P-4.11", "P-4.10")

    def is_current(self, message: Message) -> bool:
        return super().is_current(message) or self._leaving is not None


class TakesAMatchAfterItsLeave(Client):
    """Takes a partner though its leave is under way."""

    breaks = ("P-4.11",)

    async def on_join(self, message: Message) -> None:
        self._leaving = None
        await super().on_join(message)


class NeverOffersAgain(Client):
    """Gives up an offer that was rolled back."""

    breaks = ("P-5.12",)
    _has_offered = False

    async def negotiation_needed(self) -> None:
        if not self._has_offered:
            self._has_offered = True
            await super().negotiation_needed()


class CutsCharactersInHalf(Client):
    """Cuts chat by UTF-16 code units."""

    breaks = ("P-2.18",)

    async def chat(self, text: str) -> None:
        units = text.encode("utf-16-le")[: 2 * self._limits["chatCharacters"]]
        if self._room is not None and "chat" in self._features and len(units) <= self._limits["messageBytes"]:
            await self.send("chat", text=units.decode("utf-16-le", errors="surrogatepass"))

    async def transmit(self, type: str, fields: dict[str, Any]) -> None:
        await self._send(TextMessage(json.dumps({"type": type, **fields})))


class CrashesWhenTheConnectionIsLost(Client):
    """Ends its program, so it is tried as a program only."""

    def reconnects(self, code: int) -> bool:
        os._exit(5)


BAD_CLIENTS: tuple[type[Client], ...] = tuple(kind for kind in Client.__subclasses__() if kind.breaks)


# ---------------------------------------------------------------- as a program


async def _perform_actions(client: Client) -> None:
    """Perform the actions on standard input."""
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        action, _, text = line.strip().partition(" ")
        await getattr(client, action)(*[text] * (action in ("chat", "media")))


async def main(url: str, kind: str) -> None:
    """A client of this kind at this address, for `--client-command`."""
    host, _, port = url.removeprefix("ws://").removesuffix("/ws").rpartition(":")

    async def dial() -> trio.abc.Stream:
        return await trio.open_tcp_stream(host, int(port))

    client = globals()[kind](dial)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.live)
        nursery.start_soon(_perform_actions, client)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
