"""Speech for receivers that play nothing but PCM16 (session-protocol 1.8): Opus is converted on its way out.

Nodes speak Opus. Mobile clients, and web clients while they are in a room, take the bytes of any `tts_audio`
for PCM16 at 16 kHz and would play noise. So their results are promised to the outbox and made in a worker
thread. It is one, because two are slower: a conversion holds the interpreter for most of its time.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64

import trio
from msgspec.structs import replace

from linguad import audio, log, metrics
from linguad.errors import AudioError
from linguad.net.outbox import Later
from linguad.wire import codec
from linguad.wire.session import TranslationResult

Waiting = tuple[TranslationResult, Later, float]
"""A result whose speech is being converted, its promise, and when it was asked for, monotonic s."""

logger = log.get(__name__)

MAX_WAITING = 64
"""Speeches that may wait for the thread, about two seconds of work; more would come too late to be heard."""

MAX_SECONDS = 120
"""Longest speech that is converted, 5 MB as PCM16: a client's outbox must hold some."""

MAX_CHARS = MAX_SECONDS * audio.WIRE_RATE * 2 * 4 // 3
"""The longest PCM16 as base64."""

GROWTH = 11
"""How much longer PCM16 is than the Opus of real nodes (24 kbit/s); only an estimate is made of it."""


def plays_only_pcm16(platform: str, in_room: bool) -> bool:
    """Whether a client takes any speech for PCM16, whatever its format."""
    return platform in ("ios", "android") or (platform == "web" and in_room)


class Speech:
    """Converts the speech of results, each once however many get it; mutable: what waits, and for whom."""

    def __init__(self) -> None:
        self._wanted: dict[str, list[Waiting]] = {}
        self._queue, self._queued = trio.open_memory_channel[str](MAX_WAITING)

    async def run(self) -> None:
        """Convert for ever, in the order in which it was asked."""
        async for speech in self._queued:
            pcm16 = await self._convert(speech)
            for message, later, asked_at in self._wanted.pop(speech):
                if pcm16 is None:
                    later.fail()
                else:
                    playable = replace(_sent_now(message, asked_at), tts_audio=pcm16, tts_format="pcm16")
                    later.set(codec.encode(playable))
                # A frame is large: a whole room at once would keep everybody else waiting for milliseconds.
                await trio.lowlevel.checkpoint()

    def playable(self, message: TranslationResult) -> str | Later:
        """The frame of a result for a client that plays only PCM16, or the promise of it.

        It goes without its speech if that cannot be converted, for the text must arrive and noise must not be
        played; so it does if too many wait already.
        """
        speech = message.tts_audio
        if message.tts_format != "opus" or not speech:
            return codec.encode(message)
        silent = codec.encode(replace(message, tts_audio=""))
        if speech not in self._wanted:
            try:
                self._queue.send_nowait(speech)
            except trio.WouldBlock:
                metrics.SPEECH_OVERLOAD.inc()
                return silent
            self._wanted[speech] = []
        later = Later(min(GROWTH * len(speech), MAX_CHARS) + len(silent), silent)
        self._wanted[speech].append((message, later, trio.current_time()))
        return later

    async def _convert(self, speech: str) -> str | None:
        """None if it does not decode; nor does a bug of the decoder silence everybody else."""
        job_id = self._wanted[speech][0][0].job_id
        try:
            with metrics.SPEECH_SECONDS.time():
                return await trio.to_thread.run_sync(pcm16_of, speech)
        except AudioError as error:
            logger.warning("speech_undecodable", job=job_id, reason=str(error))
        except Exception as error:
            logger.error("speech_crashed", job=job_id, exc_info=error)
        metrics.SPEECH_UNDECODABLE.inc()
        return None


def _sent_now(message: TranslationResult, asked_at: float) -> TranslationResult:
    """A result that was held up since then is sent so much later; clients reckon their network by it."""
    if message.scheduler_sent_at_ms is None:
        return message
    held_up_ms = round((trio.current_time() - asked_at) * 1000)
    return replace(message, scheduler_sent_at_ms=message.scheduler_sent_at_ms + held_up_ms)


def pcm16_of(speech: str) -> str:
    """PCM16 of Plan A, both as base64; for a worker thread.

    Raises AudioError if it is not base64, does not decode or is too long.
    """
    try:
        payload = a2b_base64(speech, strict_mode=True)
    except ValueError as error:
        raise AudioError("the audio is not base64") from error
    if audio.duration_ms(payload, "opus", audio.WIRE_RATE) > MAX_SECONDS * 1000:
        raise AudioError(f"the audio is longer than {MAX_SECONDS} s")
    return b64encode(audio.decode_plan_a(payload)).decode()
