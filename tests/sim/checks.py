"""What must hold at the end of every run."""

from __future__ import annotations

from collections.abc import Iterator

from . import speech
from .client import Account, SimClient
from .node import SimNode
from .server import Server


def problems(server: Server, nodes: list[SimNode], clients: list[SimClient], *, calm: bool) -> list[str]:
    """Everything that went wrong, each in a sentence; empty after a good run."""
    found = list(_leaks(server))
    found += [
        f"a node left {node.untranslated} utterances untranslated: sent out of order"
        for node in nodes
        if node.untranslated
    ]
    found += [
        f"a node refused {node.duplicates} jobs whose names it knew" for node in nodes if node.duplicates
    ]
    for client in clients:
        found += [f"{client.session_id}: {problem}" for problem in _client(server, client, calm)]
    return found


def _leaks(server: Server) -> Iterator[str]:
    statistics = server.fleet.table.statistics()
    if statistics["used"] or server.open_attempts:
        yield f"{statistics['used']} slots are taken, {len(server.open_attempts)} attempts are open"
    if server.dispatch.open_jobs or len(server.dispatch.waiting):
        yield f"{server.dispatch.open_jobs} jobs are open, {len(server.dispatch.waiting)} wait"
    if server.dispatch.due() is not None:
        yield "the dispatcher waits for a deadline though nothing is open"
    if server.audio_bytes:
        yield f"{server.audio_bytes} bytes of audio were not given back"
    for session in server.sessions.values():
        if session.due() is not None or session.buffered_bytes:
            yield f"{session.id} waits for something though all was said and answered"


def _client(server: Server, client: SimClient, calm: bool) -> Iterator[str]:
    account, session_id = client.account, client.session_id
    yield from _cuts(server, client)
    on_time = [left.index for left in account.left if not left.late]
    if on_time != sorted(set(on_time)):
        yield f"indexes left out of order or twice: {on_time}"
    told = {left.index for left in account.left if left.reason and not left.late}
    late = [left.index for left in account.left if left.late]
    if len(set(late)) != len(late) or not set(late) <= told:
        yield f"late results that nobody was told to miss, or twice: {late}"
    expected = {output.request.utterance_index for output in server.submitted[session_id]} | set(
        account.empty
    )
    if not set(on_time) <= expected:
        yield f"indexes that never were: {sorted(set(on_time) - expected)}"
    if session_id in server.sessions and client.spec.ending == "stays":
        if set(on_time) != expected:
            yield f"indexes that never left: {sorted(expected - set(on_time))}"
        if calm:
            yield from _silently_lost(server, session_id, account)


def _cuts(server: Server, client: SimClient) -> Iterator[str]:
    """Every packet that was spoken is in one utterance, unless the client closed before it was cut."""
    cut: list[int] = []
    for output in server.submitted[client.session_id]:
        cut += speech.numbers(speech.decode(output.audio.base64))
    if len(set(cut)) != len(cut):
        yield "some audio is in two utterances"
    lost = set(client.account.spoken) - set(cut)
    if lost and client.spec.ending == "stays":
        yield f"{len(lost)} packets were cut into no utterance, the first is {min(lost)}"


def _silently_lost(server: Server, session_id: str, account: Account) -> Iterator[str]:
    """Speech that came back neither as text nor as an error."""
    read = set(account.partial)
    for left in account.left:
        read |= speech.read(left.text)
    reasons = {left.index: left.reason for left in account.left if not left.late}
    for output in server.submitted[session_id]:
        index = output.request.utterance_index
        packets = speech.decode(output.audio.base64)
        spoken = {number for number in speech.numbers(packets) if not account.spoken[number]}
        if index not in account.failed and spoken - read:
            came_to = reasons.get(index) or "delivered"
            yield f"utterance {index} ({came_to}) lacks {len(spoken - read)} of its packets"
