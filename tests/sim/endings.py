"""What must hold when all was answered, when the server stopped, and when all are gone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice

from linguad.core.utterance import CutReason
from linguad.wire.language import AUTO, normalize

from . import speech
from .accounts import Account
from .cable import LAG_S
from .client import Client
from .gateway import Gateway
from .heard import Heard
from .node import SimNode
from .resuming import ResumingClient
from .server import Server


def all_answered(
    server: Server, nodes: list[SimNode], clients: list[Client], gateways: list[Gateway], *, honest: bool
) -> Iterator[str]:
    """What is wrong when all was said and there was time enough to answer."""
    for node in nodes:
        if count := node.complaints["untranslated"]:
            yield f"a node left {count} utterances untranslated: sent out of order"
        if count := node.complaints["duplicate"]:
            yield f"a node refused {count} jobs whose names it knew"
    yield from _leaks(server)
    yield from _accounts(server)
    for session_id in server.accounts.sessions:
        yield from server.till.problems(session_id, server.accounts.of(session_id), honest=honest)
    for gateway in gateways:
        yield from gateway.problems(honest=honest)
    for client in clients:
        if client.goes_on and not client.connected:
            yield f"{client.session_id} has no connection"
        if isinstance(client, ResumingClient) and client.forgotten:
            yield f"{client.session_id} went on, and {len(client.forgotten)} of its old connections are open"
        for session_id, heard in client.heard.items():
            whole = client.connected and client.spec.ending == "stays" and session_id == client.session_id
            for problem in _session(server, session_id, client, heard, whole=whole, honest=honest):
                yield f"{session_id}: {problem}"
        visitor = client.visitor
        knows = client.spec.lag_s == LAG_S and not client.spec.dozes_every_s and not server.process.lost_s
        if visitor is not None and client.connected and client.spec.ending == "stays" and knows:
            members = server.book.members(client.session_id)
            if visitor.members != members:
                yield f"{client.session_id} sees {visitor.members} in its room, there are {members}"


def farewell(server: Server, clients: list[Client]) -> Iterator[str]:
    """What is wrong when the server has stopped, of sessions that were attached then."""
    yield from _accounts(server)
    made = set(islice(server.accounts.all, server.last_jobs))
    for client in clients:
        session_id = client.session_id
        if server.farewells.get(session_id) is not client.cable or client.spec.dozes_every_s:
            continue
        if client.cable.left:
            continue  # It was gone before the goodbye came.
        heard, accounts = client.heard[session_id], server.accounts.of(session_id)
        mine = {one.index for one in accounts if one.job.request.for_speaker and one.job.id in made}
        if silent := mine - set(heard.on_time):
            yield f"{session_id}: nothing was said of {sorted(silent)} when the server stopped"
        if isinstance(client, ResumingClient) and client.last_delivery != server.memo.saved[session_id]:
            yield f"{session_id}: the server remembers other results than the last one"
        if client.spec.breaks_every_s or server.process.lost_s:
            continue
        if client.spec.streams:
            known, until = {number for account in accounts for number in account.span}, server.drained_at
        elif isinstance(client, ResumingClient):
            continue  # It says what has no result once more, to the server that comes next.
        else:
            known, until = set(heard.on_time), server.stopped_at
        came = {what for what, at in heard.sent_at.items() if at + client.spec.lag_s < until}
        if lost := came - known:
            yield f"{session_id}: {sorted(lost)} came in time and were dropped when the server stopped"


def all_gone(server: Server) -> Iterator[str]:
    """What is left when everybody left."""
    yield from _leaks(server)
    if server.budget.used:
        yield f"{server.budget.used} bytes were not given back"
    if len(server.sessions) or server.sessions.due() is not None:
        yield f"{len(server.sessions)} sessions are left"
    if len(server.sessions.rooms) or server.sessions.rooms.members:
        yield f"{len(server.sessions.rooms)} rooms and {server.sessions.rooms.members} members are left"
    if len(server.nodes) or server.fleet.nodes:
        yield f"{len(server.nodes)} links and {len(server.fleet.nodes)} records of nodes are left"


def _leaks(server: Server) -> Iterator[str]:
    used, waiting = server.fleet.table.statistics()["used"], len(server.dispatch.waiting)
    if used or server.dispatch.open_jobs or waiting:
        yield f"{used} slots are taken, {server.dispatch.open_jobs} jobs are open, {waiting} wait"
    if server.engine.due() is not None:
        yield "the dispatcher waits for a deadline though nothing is open"
    kept = sum(one.session.recovery.kept_bytes for one in server.entries if one.session.recovery)
    if server.member is not None and len(server.member.guests):
        yield f"{len(server.member.guests)} guests are open"
    if server.job_bytes.used or server.session_bytes.used != kept:
        yield f"{server.job_bytes.used} + {server.session_bytes.used} bytes of audio were not given back"


def _accounts(server: Server) -> Iterator[str]:
    """Every job ends once, and in a room there is one for each language of those who were there."""
    for account in server.accounts.all.values():
        job = account.job
        if len(account.outcomes) > 2:
            yield f"{job.id} was reported {len(account.outcomes)} times"
        texts = sum(outcome.result is not None for outcome in account.outcomes)
        if account.away and job.request.reason is CutReason.TIMEOUT:
            yield f"{job.id} was cut because of silence while its client was away"
        told = server.book.told[job.id]
        gone = server.entry(account.session_id) is None
        if job.request.room_id and (told > texts or (told < texts and not gone)):
            yield f"the text of {job.id} left {told} times for a room, it came {texts} times"


def _session(
    server: Server, session_id: str, client: Client, heard: Heard, *, whole: bool, honest: bool
) -> Iterator[str]:
    accounts = server.accounts.of(session_id)
    yield from _cuts(accounts, heard, whole=whole, streams=client.spec.streams)
    yield from _room(server, session_id, heard, whole=whole)
    yield from _languages_of_rooms(accounts)
    if client.spec.streams:
        yield from _languages(accounts, heard)
    if whole:
        yield from _left_open(accounts)
    expected = {account.index for account in accounts} | set(heard.empty)
    left = set(heard.on_time)
    if not left <= expected:
        yield f"indexes that never were: {sorted(left - expected)}"
    if whole and left != expected:
        yield f"indexes that never left: {sorted(expected - left)}"
    if whole and honest:
        yield from _silently_lost(accounts, heard)


def _cuts(accounts: list[Account], heard: Heard, *, whole: bool, streams: bool) -> Iterator[str]:
    """Every packet that was spoken is in one utterance, in order, unless its client left before the cut."""
    sound: dict[int, list[bytes]] = {}
    for account in accounts:
        if sound.setdefault(account.index, account.packets) != account.packets:
            yield f"utterance {account.index} was made twice, of different audio"
    cut = [number for packets in sound.values() for number in speech.numbers(packets)]
    if len(set(cut)) != len(cut):
        yield "some audio is in two utterances"
    lost = set(heard.spoken) - set(cut)
    if lost and whole:
        yield f"{len(lost)} packets were cut into no utterance, the first is {min(lost)}"
    if streams and cut != list(heard.spoken)[: len(cut)]:
        yield "the audio was cut in another order than it was spoken, or with gaps"


def _languages(accounts: list[Account], heard: Heard) -> Iterator[str]:
    """Every job is for the languages that held when its turn began."""
    for turn_id, slices in groupby(accounts, key=lambda account: account.job.request.turn_id):
        first, *others = slices
        packets = range(first.span.start, max(one.span.stop for one in (first, *others)))
        begins = {packets.start, *(start for start in heard.sentences if start in packets)}
        allowed = [heard.languages_at(packet) for packet in begins]
        for account in (first, *others):
            if not any(languages.asks(account.job.request) for languages in allowed):
                request = account.job.request
                said = request.src_lang, request.tgt_lang, request.lang_a, request.lang_b
                yield f"turn {turn_id} of {packets} is done in {said}, {allowed} held when it began"


def _left_open(accounts: list[Account]) -> Iterator[str]:
    """Every turn has a last slice in each of its languages, or a node would keep the others back for ever."""
    last = {(one.job.request.turn_id, one.job.request.tgt_lang): one.job.request for one in accounts}
    for (turn_id, tgt_lang), request in last.items():
        if request.reason.speech_continues:
            yield f"turn {turn_id} in {tgt_lang} has no last slice, {request.utterance_index} is the end"


def _room(server: Server, session_id: str, heard: Heard, *, whole: bool) -> Iterator[str]:
    """It got the texts that were for it when they left, in their order, and no others."""
    due, got = server.book.due.get(session_id, []), heard.room_jobs
    if whole and got != due:
        yield f"these texts were for it in a room: {due}, these came: {got}"
    left = iter(due)
    if not all(job_id in left for job_id in got):
        yield f"of the texts {due} that were for it in a room, these came: {got}"


def _languages_of_rooms(accounts: list[Account]) -> Iterator[str]:
    """Whoever is in the room when something is cut has a job in its language, or understands it anyway."""
    earlier: set[str] = set()
    turn: tuple[str, int] | None = None
    alone = False
    for _, jobs in groupby(accounts, key=lambda account: account.index):
        utterance = list(jobs)
        request, company = utterance[0].job.request, utterance[0].company
        if (company is not None) != bool(request.room_id):
            yield f"{request.utterance_index} is for room {request.room_id!r}, there is {company}"
        if company is None:
            continue
        if sum(account.job.request.for_speaker for account in utterance) != 1:
            yield f"{request.utterance_index} is read by its speaker in none or several languages"
        if turn != (request.turn_id, company.stay):
            turn, earlier, alone = (request.turn_id, company.stay), set(), not company.languages
        made = {normalize(account.job.request.tgt_lang) for account in utterance}
        source = normalize(request.src_lang)
        needed = set(company.languages) - ({source} if source != AUTO else set())
        if alone:
            needed = made if len(made) == 1 else set()
        elif not needed | earlier:
            needed = {source}
        if made != needed | earlier:
            yield f"{request.utterance_index} is made in {made}; needed: {needed}, in its turn: {earlier}"
        earlier = set() if alone else made


def _silently_lost(accounts: list[Account], heard: Heard) -> Iterator[str]:
    """Speech that came back neither as text nor as an error; slices go by what came of their turn."""
    failed_turns = {
        account.job.request.turn_id
        for account in accounts
        if account.index in heard.failed
        or (heard.results and any(outcome.error for outcome in account.outcomes))
    }
    for account in accounts:
        if account.job.request.turn_id in failed_turns:
            continue
        spoken = {number for number in speech.numbers(account.packets) if not heard.spoken[number]}
        if lost := spoken - heard.read:
            came_to = heard.on_time.get(account.index) or "delivered"
            yield f"utterance {account.index} ({came_to}) lacks {len(lost)} of its packets"
