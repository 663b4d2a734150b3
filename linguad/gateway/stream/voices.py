"""Speech on its way to the apps of `/v1/stream`, in the format each asked for (gateway 6.3).

Nodes speak Opus packets. A `final` is promised to the outbox, so that it keeps its place, and made in a
worker thread. If that fails, or too much waits, the text goes without its speech.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

import trio
from msgspec.structs import replace

from linguad import log, metrics
from linguad.core.sound import PCM16
from linguad.errors import AudioError
from linguad.gateway.speech.sound import OutputFormat, Sounds
from linguad.net.outbox import Later
from linguad.wire.public import Final

MAX_WAITING = 64
"""Finals whose speech may wait; more would come too late to be heard."""

GROWTH = 11
"""How much longer PCM16 is than the Opus of real nodes (24 kbit/s); only an estimate is made of it."""

Encode = Callable[[Final], str]
logger = log.get(__name__)


class Voices:
    """Mutable: how many finals wait for their speech."""

    def __init__(self, sounds: Sounds) -> None:
        self._sounds = sounds
        self._waiting = 0
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Make speech, for ever. Without it finals go without their speech."""
        async with trio.open_nursery() as self._nursery:
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def frame(self, final: Final, output_format: str, encode: Encode) -> str | Later:
        """The frame of a final, or the promise of it; `encode` makes frames."""
        if not final.audio or output_format == OutputFormat.PACKETS:
            return encode(final)
        if output_format == PCM16 and final.tts_format == PCM16:
            return encode(final)
        silent = encode(replace(final, audio="", tts_format="", tts_sample_rate=None))
        if self._nursery is None or self._waiting >= MAX_WAITING:
            metrics.SPEECH_OVERLOAD.inc()
            return silent
        self._waiting += 1
        later = Later(GROWTH * len(final.audio) + len(silent), silent)
        self._nursery.start_soon(self._make, final, output_format, encode, later)
        return later

    async def _make(self, final: Final, output_format: str, encode: Encode, later: Later) -> None:
        try:
            later.set(encode(await self._spoken(final, output_format)))
        except AudioError as error:
            logger.warning("stream_speech_undecodable", reason=str(error))
            metrics.SPEECH_UNDECODABLE.inc()
        except Exception as error:
            # a bug of a decoder must not silence everybody else
            logger.error("stream_speech_crashed", exc_info=error)
            metrics.SPEECH_UNDECODABLE.inc()
        finally:
            later.fail()
            self._waiting -= 1

    async def _spoken(self, final: Final, output_format: str) -> Final:
        with metrics.SPEECH_SECONDS.time():
            speech = await self._sounds.speech([(final.audio, final.tts_format)], output_format)
        return replace(
            final,
            audio=b64encode(speech.data).decode(),
            tts_format=speech.format if speech.data else "",
            tts_sample_rate=speech.sample_rate if speech.data else None,
        )
