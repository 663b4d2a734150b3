"""What is written of sessions, and what is left of those that are over."""

from __future__ import annotations

from pathlib import Path

import trio
from cutter import Cutter
from instances import TEST_S, Instance, members
from links import until
from redis_server import RedisServer

from linguad.cluster.sessions import SessionRecords
from linguad.wire.resume import SessionRecord
from linguad.wire.session import SessionInit

RECORD = SessionRecord(
    init=SessionInit(client_version="1", platform="web", src_lang="en", tgt_lang="es"),
    token_hash="hash",
    trace_id="t",
    tenant="direct",
)


class Keeper:
    """Sessions by name, with what others need to know of each."""

    def __init__(self) -> None:
        self.sessions: dict[str, SessionRecord] = {}

    def all(self) -> list[str]:
        return list(self.sessions)

    def record(self, session_id: str) -> SessionRecord | None:
        return self.sessions.get(session_id)

    def left_s(self, session_id: str) -> float | None:
        return None if session_id in self.sessions else 0.0

    def saved(self, session_id: str, record: SessionRecord) -> None:
        pass

    def lost(self, session_id: str) -> None:
        del self.sessions[session_id]


async def test_a_session_that_ends_while_it_is_written_leaves_nothing(
    server: RedisServer, tmp_path: Path
) -> None:
    cutter = Cutter(tmp_path / "s", server.socket)
    a = Instance("a", f"unix://{cutter.path}")
    records, keeper = SessionRecords(a.cluster, 30.0), Keeper()
    records.connect(keeper)
    with trio.fail_after(TEST_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(cutter.run)
            async with members(a) as inside:
                inside.start_soon(records.run)
                cutter.hold = trio.Event()
                keeper.sessions["s-1"] = RECORD
                records.changed("s-1")
                await until(lambda: "s-1" in records._written_at)
                del keeper.sessions["s-1"]
                records.ended("s-1")
                cutter.hold.set()
                # written one after another: with the next one, the first is done with
                keeper.sessions["s-2"] = RECORD
                records.changed("s-2")
                await until(lambda: records._epochs.get("s-2") and not records._over)
                assert set(records._epochs) == set(records._written_at) == {"s-2"}
                for what in ("lease", "resume"):
                    assert not server.do("EXISTS", a.cluster.keys.of("s", "s-1", what))
                    assert server.do("EXISTS", a.cluster.keys.of("s", "s-2", what))
            nursery.cancel_scope.cancel()
