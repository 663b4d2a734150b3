"""What is written down of a session, so that another instance can go on with it (resolution 49)."""

from __future__ import annotations

from linguad.core.intake import Intake
from linguad.core.requests import Requests
from linguad.core.resume import Recovery
from linguad.core.seat import Seat
from linguad.wire.resume import SessionRecord
from linguad.wire.session import SessionInit


def written(
    init: SessionInit, requests: Requests, recovery: Recovery, intake: Intake, seat: Seat
) -> SessionRecord:
    """All that another instance needs to know of a session that began with `init`."""
    shared, settled, cutter = requests.shared, recovery.audio.settled, intake.cutter
    audio_format = cutter.format if cutter.taken_bytes else init.audio_format
    return SessionRecord(
        init=requests.began_now(init, audio_format),
        token_hash=recovery.token_hash,
        trace_id=shared.trace_id,
        tenant=shared.tenant,
        node_id=shared.node_id,
        key_id=shared.key_id,
        next_index=intake.next_index,
        delivery=recovery.delivery,
        seq=settled.seq,
        size=settled.size,
        cut_bytes=intake.cut_bytes,
        cut=recovery.audio.unsettled,
        seat=seat.record(),
    )
