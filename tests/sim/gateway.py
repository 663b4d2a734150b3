"""The old API gateway: a connection for its hello, another one for each utterance (session-protocol 1.11)."""

from __future__ import annotations

from collections.abc import Iterator

from linguad.wire import codec
from linguad.wire.session import ErrorMessage, SessionInit, SessionInitAck, TranslationResult, Utterance

from . import speech
from .cable import Cable
from .server import Server
from .spec import ClientSpec
from .world import World

PAUSES_S = (0.0, 0.5, 3.0, 20.0, 120.0)
"""Between two calls of its own clients; the last one is longer than its session is kept."""

KEEPALIVE_S = 100.0
"""Until the kernel of the server sees that a peer is gone."""

LINGERS_S = 5.0
"""How long it sometimes keeps a connection that has its result."""


class Call:
    """An utterance on a connection of its own."""

    def __init__(
        self, session_id: str, index: int, packets: list[bytes], cable: Cable, away_s: float
    ) -> None:
        """`away_s` is how long there was no connection for the session."""
        self.away_s = away_s
        self.session_id = session_id
        self.index = index
        self.packets = packets
        self.cable = cable
        self.results = 0
        self.read: set[int] = set()
        """The packets in its text."""
        self.given_up = False
        """Whether its connection was dropped, by it or by the server."""
        self.refused = False
        """Whether the server knew no such session."""


class Gateway:
    """One session of the gateway after the other; it makes one call at a time and waits without end."""

    def __init__(self, world: World, server: Server, spec: ClientSpec) -> None:
        self.spec = spec
        self.faulty = True
        self.calls: list[Call] = []
        self._world = world
        self._server = server
        self._session_id = ""
        self._index = 0
        self._packet = 0
        self._dropped_at = world.now
        self._over = False
        self._quiet_at = world.now + spec.talks_s
        self._cable: Cable
        self._hello()

    def leave(self) -> None:
        """Hang up everywhere."""
        self._over = True
        self._cable.hang_up()
        for call in self.calls:
            call.cable.hang_up()

    def receive(self, cable: Cable, text: str) -> None:
        """A frame; of those to a call all but results are skipped."""
        message = codec.server_messages.decode(text)
        call = self._call_of(cable)
        if call is None:
            assert isinstance(message, SessionInitAck), "the first frame is no acknowledgement"
            self._session_id, self._index = message.session_id, 0
            self._world.say(self._session_id, f"{self.spec}")
            self._drop(cable)
            self._soon()
        elif isinstance(message, TranslationResult):
            self._answered(call, message)
        elif isinstance(message, ErrorMessage):
            call.refused = message.code == "INVALID_SESSION"

    def closed(self, cable: Cable) -> None:
        """The server ended a connection: the call has failed, or the session is not there."""
        call = self._call_of(cable)
        if call is not None and not call.results and not call.given_up:
            call.given_up = True
            self._world.say(self._session_id, f"call {call.index} failed")
            if call.refused:
                self._world.after(1.0, self._hello)
            else:
                self._soon()
        elif call is None and not self._session_id:
            self._world.after(1.0, self._hello)

    def problems(self, *, honest: bool) -> Iterator[str]:
        """What is wrong when there was time enough to answer."""
        for call in self.calls:
            name = f"call {call.session_id}:{call.index}"
            kept_s = self._server.settings.sessions.gateway_detach_grace_s - 2 * self.spec.lag_s - LINGERS_S
            if call.refused and call.away_s < kept_s and not self._server.process.lost_s:
                yield f"{name} was refused after {call.away_s:.1f} s"
            if honest and not call.read <= set(speech.numbers(call.packets)):
                yield f"{name} got what was said in another one"
            if not call.results and not call.given_up:
                yield f"{name} was not answered"

    def _call_of(self, cable: Cable) -> Call | None:
        return next((call for call in reversed(self.calls) if call.cable is cable), None)

    def _hello(self) -> None:
        if self._over or self._server.stopping:
            return
        self._session_id = ""
        self._cable = self._server.connect_client(self, self.spec.lag_s)
        init = SessionInit(client_version="1.0.0", platform="api-gateway", **self.spec.languages.fields)
        self._cable.send(codec.encode(init))

    def _drop(self, cable: Cable) -> None:
        """Mostly the socket is closed; sometimes the server learns it much later, for it sends no pings."""
        self._dropped_at = self._world.now
        if self.faulty and self._world.chance(0.2):
            cable.tear()
            self._world.after(KEEPALIVE_S, cable.server.gone)
        else:
            cable.hang_up()

    def _soon(self) -> None:
        if self._world.now < self._quiet_at:
            self._world.after(self._world.random.choice(PAUSES_S), self._speak)

    def _speak(self) -> None:
        world, first = self._world, self._packet
        count = 0 if world.chance(0.15) else round(world.between(0.2, self.spec.longest_s) * 50)
        self._packet += count
        silent = world.chance(0.1)
        self._call([speech.packet(number, silent) for number in range(first, self._packet)])

    def _call(self, packets: list[bytes]) -> None:
        if self._over or self._server.stopping:
            return
        cable = self._server.connect_client(self, self.spec.lag_s)
        away_s = self._world.now - self._dropped_at
        call = Call(self._session_id, self._index, packets, cable, away_s)
        self.calls.append(call)
        cable.send(
            codec.encode(
                Utterance(
                    session_id=self._session_id,
                    utterance_index=self._index,
                    manual_cut=False,
                    src_lang=self.spec.languages.src,
                    tgt_lang=self.spec.tgt,
                    audio=speech.encode(packets),
                    audio_format="opus",
                    sample_rate=16000,
                )
            )
        )
        if self.faulty and self.spec.breaks_every_s and self._world.chance(0.4):
            self._world.after(self._world.between(0.0, 4.0), self._give_up, call)

    def _give_up(self, call: Call) -> None:
        """Its own client is gone; the same or something else is said with the same index (1.11)."""
        if call.results or call.given_up or not call.cable.up:
            return
        self._world.say(call.session_id, f"gives up call {call.index}")
        call.given_up = True
        self._drop(call.cable)
        again_s = self._world.random.choice((0.0, 0.2, 5.0))
        if self._world.chance(0.5):
            self._world.after(again_s, self._call, call.packets)
        else:
            self._world.after(again_s, self._speak)

    def _answered(self, call: Call, result: TranslationResult) -> None:
        self._world.say(call.session_id, f"call {call.index} got {result.utterance_index}: {result.text_asr}")
        call.results += 1
        assert not call.given_up, "a result came on a connection that was dropped"
        assert call.results == 1, f"call {call.session_id}:{call.index} got a second result"
        assert result.utterance_index == call.index, f"{result.utterance_index} answers call {call.index}"
        assert (result.session_id, result.delivery) == (call.session_id, None)
        call.read = speech.read(result.text_asr)
        self._index += 1
        if self._world.chance(0.5):
            self._drop(call.cable)
        else:
            self._world.after(LINGERS_S, self._drop, call.cable)
        self._soon()
