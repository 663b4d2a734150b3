"""Letters to other instances and from them (resolution 53).

Between two processes there is one order: what is sent first is written first, read first and handled first.
Handling is synchronous, so that no letter overtakes another, of its lane or of any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
import trio

from linguad import log
from linguad.cluster.peers import Peers
from linguad.cluster.place import Place
from linguad.cluster.sender import Sender
from linguad.core.incoming import Incoming, Verdict
from linguad.metrics import LETTERS, child
from linguad.wire.letters import Envelope, Letter

L = TypeVar("L", bound=Letter)

Handle = Callable[[str, Letter, bytes], None]

UNKNOWN = "unknown"
"""Kind in metrics of letters that this version does not know."""

logger = log.get(__name__)


class Bus:
    """Mutable state: a sender for each live instance, and the last numbers of those that write to us."""

    def __init__(self, place: Place, peers: Peers, *, max_bytes: int, max_deliveries: int) -> None:
        self._place = place
        self._peers = peers
        self._max_bytes = max_bytes
        self._kinds: dict[str, tuple[type[Letter], msgspec.msgpack.Decoder[Letter], Handle]] = {}
        self._incoming = Incoming(place.me.boot, max_deliveries)
        self._senders: dict[str, Sender] = {}
        self._accounts = 0
        self._nursery: trio.Nursery | None = None
        self._encode = msgspec.msgpack.Encoder().encode
        self.open = False
        """Whether Redis is there and we are a member."""
        peers.when_gone(self._forget)

    @property
    def instance_id(self) -> str:
        """Our own name."""
        return self._place.me.instance

    def on(self, kind: type[L], handle: Callable[[str, L, bytes], None]) -> None:
        """Have letters of a kind handled: instance it is from, letter, audio. Synchronous, must not raise.

        Before `run`. One that raises makes its letter a dead letter.
        """
        decoder = msgspec.msgpack.Decoder(kind)
        self._kinds[kind.kind()] = (kind, decoder, handle)  # type: ignore[assignment] # its own kind only

    def send(self, instance: str, letter: Letter, *, lane: str, expires_s: float, audio: bytes = b"") -> bool:
        """Send a letter, which is dropped unless it is delivered within `expires_s`. Never blocks.

        False if it surely will not be delivered: the instance is not alive, Redis is away or full, or too
        many bytes are on their way there. One to ourselves is handled before this returns.
        """
        kind = letter.kind()
        if instance == self.instance_id:
            self._kinds[kind][2](instance, letter, audio)
            return True
        what = "refused"
        if self.open and (sender := self._sender(instance)) is not None:
            body = self._encode(letter)
            if sender.put(kind, body, audio, lane, trio.current_time() + expires_s):
                what = "sent"
        child(LETTERS, kind, what).inc()
        return what == "sent"

    def receive(self, envelope: Envelope, *, deliveries: int = 1) -> str:
        """Handle a letter out of an inbox; tells why it is dead, or "" if it is done with."""
        known = self._kinds.get(envelope.kind)
        verdict = self._incoming.judge(
            envelope,
            self._place.clock.now_ms(),
            outlives=self.outlives(envelope.kind),
            deliveries=deliveries,
        )
        problem = ""
        if verdict is Verdict.DEAD:
            problem = f"it was handed out {deliveries} times and never done with"
        elif verdict is Verdict.DELIVER:
            problem = self._handle(envelope)
        what = Verdict.DEAD if problem else verdict
        child(LETTERS, envelope.kind if known else UNKNOWN, what.value).inc()
        return problem

    def outlives(self, kind: str) -> bool:
        """Whether a letter of the kind means something to whoever adopts it."""
        known = self._kinds.get(kind)
        return known is not None and known[0].outlives

    def is_kept(self, kind: str) -> bool:
        """Whether a dead letter of the kind keeps its body."""
        known = self._kinds.get(kind)
        return known is not None and known[0].kept

    def unacknowledged(self) -> dict[str, int]:
        """Bytes on their way to each instance."""
        return {name: sender.unacknowledged_bytes for name, sender in self._senders.items()}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write letters until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def _handle(self, envelope: Envelope) -> str:
        if envelope.kind not in self._kinds:
            return "this version does not know its kind"
        _, decoder, handle = self._kinds[envelope.kind]
        try:
            letter = decoder.decode(envelope.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return f"it cannot be read: {error}"
        try:
            handle(envelope.sender, letter, envelope.audio)
        except Exception as error:  # a bug in one kind must not end the daemon, nor stop all letters
            logger.exception("letter_crashed", kind=envelope.kind, instance=envelope.sender)
            return f"its handler failed: {type(error).__name__}"
        return ""

    def _sender(self, instance: str) -> Sender | None:
        """The way to a live instance, made at the first letter."""
        peer = self._peers.alive().get(instance)
        if peer is None or self._nursery is None:
            return None
        sender = self._senders.get(instance)
        if sender is None:
            self._accounts += 1
            account = f"{self._place.me.boot}-{self._accounts}"
            sender = self._senders[instance] = Sender(self._place, peer, account, self._max_bytes)
            self._nursery.start_soon(sender.run)
        return sender

    def _forget(self, instance: str) -> None:
        if (sender := self._senders.pop(instance, None)) is not None:
            sender.close()
