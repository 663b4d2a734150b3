"""What must hold after everything that happens in linguad, when all was answered, and when all are gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from linguad.core.amnesty import GRACE_S
from linguad.core.job import Chosen, JobStatus
from linguad.core.placement import TURN_OVERFLOW_SLOTS

from . import speech
from .accounts import Account
from .client import Client, Heard
from .node import SimNode
from .server import Server

ROUNDING_S = 1e-6


class Inspector:
    """Looks at the server after everything that happens in it; a look costs as the number of open jobs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._highest_caps: Counter[str] = Counter()

    def look(self) -> None:
        """Raises AssertionError for the first thing that does not hold."""
        server, holding = self._server, Counter[str]()
        waiting = audio_bytes = 0
        for job_id, account in list(server.accounts.open.items()):
            job = account.job
            for attempt in job.attempts:
                assert not attempt.holds_slot or attempt.open, f"{job_id} holds a slot after its attempt"
                holding[attempt.node_id] += attempt.holds_slot
            if job.status.final:
                del server.accounts.open[job_id]
                self._ended(account)
                continue
            assert job.audio is not None, f"{job_id} is open and has no audio"
            assert not account.outcomes, f"{job_id} is open, and its session was told of its end"
            audio_bytes += len(job.audio.base64)
            waiting += job.status is JobStatus.PENDING
        self._slots(holding)
        self._times()
        still_open, counted = len(server.accounts.open), server.dispatch.open_jobs
        assert still_open == counted, f"{still_open} jobs are open, {counted} are counted"
        queued = len(server.dispatch.waiting)
        assert waiting == queued, f"{waiting} jobs wait, {queued} stand in queues"
        counted = server.job_bytes.used
        assert audio_bytes == counted, f"jobs have {audio_bytes} bytes of audio, {counted} are counted"
        unsent, counted = sum(link.queued_bytes for link in server.links), server.link_bytes.used
        assert unsent == counted, f"outboxes hold {unsent} bytes, {counted} are counted"
        assert server.session_bytes.used >= 0, "sessions gave back more audio than they had"

    def _slots(self, holding: Counter[str]) -> None:
        """Slots taken are attempts that hold one, on every node; a node is online while it has a link."""
        server, fleet = self._server, self._server.fleet
        used = fleet.table.statistics()["used"]
        assert used == holding.total(), f"{used} slots are taken, {holding.total()} attempts hold one"
        online = 0
        for node in fleet.nodes.values():
            slots, attempts = fleet.slots_used(node.id), holding[node.id]
            assert slots == attempts, f"{slots} slots of {node.id} are taken, {attempts} attempts hold one"
            cap = self._highest_caps[node.id] = max(self._highest_caps[node.id], node.cap)
            assert slots <= cap + TURN_OVERFLOW_SLOTS, f"{node.id} has {slots} jobs, its cap is {cap}"
            online += node.online
        linked = len(server.nodes)
        assert online == linked, f"{online} nodes are online, {linked} have a link"
        owners = Counter(server.registered())
        assert owners.total() == len(owners), f"a node has two links: {owners}"

    def _times(self) -> None:
        """Nothing waits past its deadline, and no job of a session is sent before one that waited already."""
        now = self._server.process.now()
        first_waiting: dict[str, int] = {}
        sent: list[tuple[str, int]] = []
        for account in self._server.accounts.open.values():
            job = account.job
            stage = job.status, len(job.attempts), job.request.node_id
            if account.stage != stage:
                account.stage, account.since = stage, now
                if job.status is JobStatus.ASSIGNED and job.attempts[-1].chosen is not Chosen.HEDGE:
                    sent.append((job.request.lane, account.index))
            elif job.status is JobStatus.PENDING:
                lowest = first_waiting.get(job.request.lane, account.index)
                first_waiting[job.request.lane] = min(lowest, account.index)
            self._in_time(account, now)
        for lane, index in sent:
            assert index <= first_waiting.get(lane, index), f"{index} of {lane} is sent before lower ones"

    def _in_time(self, account: Account, now: float) -> None:
        """Its deadlines are not over, but for those that passed while the process stood still."""
        process, rules, job = self._server.process, self._server.settings.jobs, account.job
        if process.behind or now <= process.caught_up_at + GRACE_S + ROUNDING_S:
            return
        if job.status is JobStatus.PENDING:
            until = min(account.since + rules.pending_timeout_s, job.created_at + rules.max_age_s)
            late_s = now - max(until, account.since)
            assert late_s <= ROUNDING_S, f"{job.id} waits for a node for {late_s:.3f} s too long"
        for attempt in job.open_attempts:
            until = attempt.sent_at + rules.running_timeout_s(job.seconds)
            late_s = now - min(attempt.deadline, max(until, process.caught_up_at + GRACE_S))
            assert late_s <= ROUNDING_S, f"{attempt.wire_job_id} runs for {late_s:.3f} s too long"
        oldest_s = rules.max_age_s + rules.timeout_max_s + process.lost_s
        assert now - job.created_at <= oldest_s, f"{job.id} is open for ever"

    def _ended(self, account: Account) -> None:
        job, told = account.job, len(account.outcomes)
        assert job.audio is None, f"{job.id} is over and keeps its audio"
        assert not job.open_attempts, f"{job.id} is over, an attempt is open"
        expected = job.status is not JobStatus.CANCELLED
        assert told == expected, f"{job.id} is {job.status.value}, its session was told {told} times"


def all_answered(
    server: Server, nodes: list[SimNode], clients: list[Client], *, honest: bool
) -> Iterator[str]:
    """What is wrong when all was said and there was time enough to answer."""
    for node in nodes:
        if count := node.complaints["untranslated"]:
            yield f"a node left {count} utterances untranslated: sent out of order"
        if count := node.complaints["duplicate"]:
            yield f"a node refused {count} jobs whose names it knew"
    yield from _leaks(server)
    for account in server.accounts.all.values():
        if len(account.outcomes) > 2:
            yield f"{account.job.id} was reported {len(account.outcomes)} times"
    for client in clients:
        for session_id, heard in client.heard.items():
            whole = client.connected and client.spec.ending == "stays" and session_id == client.session_id
            for problem in _session(server, session_id, client, heard, whole=whole, honest=honest):
                yield f"{session_id}: {problem}"


def all_gone(server: Server) -> Iterator[str]:
    """What is left when everybody left."""
    yield from _leaks(server)
    if server.budget.used:
        yield f"{server.budget.used} bytes were not given back"
    if len(server.sessions) or server.sessions.due() is not None:
        yield f"{len(server.sessions)} sessions are left"
    if len(server.nodes) or server.fleet.nodes:
        yield f"{len(server.nodes)} links and {len(server.fleet.nodes)} records of nodes are left"


def _leaks(server: Server) -> Iterator[str]:
    used, waiting = server.fleet.table.statistics()["used"], len(server.dispatch.waiting)
    if used or server.dispatch.open_jobs or waiting:
        yield f"{used} slots are taken, {server.dispatch.open_jobs} jobs are open, {waiting} wait"
    if server.engine.due() is not None:
        yield "the dispatcher waits for a deadline though nothing is open"
    if server.job_bytes.used or server.session_bytes.used:
        yield f"{server.job_bytes.used} + {server.session_bytes.used} bytes of audio were not given back"


def _session(
    server: Server, session_id: str, client: Client, heard: Heard, *, whole: bool, honest: bool
) -> Iterator[str]:
    accounts = server.accounts.of(session_id)
    yield from _cuts(accounts, heard, whole=whole)
    expected = {account.index for account in accounts} | set(heard.empty)
    left = set(heard.on_time)
    if not left <= expected:
        yield f"indexes that never were: {sorted(left - expected)}"
    if whole and left != expected:
        yield f"indexes that never left: {sorted(expected - left)}"
    if whole and honest:
        yield from _silently_lost(accounts, heard)


def _cuts(accounts: list[Account], heard: Heard, *, whole: bool) -> Iterator[str]:
    """Every packet that was spoken is in one utterance, unless the client left before it was cut."""
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


def _silently_lost(accounts: list[Account], heard: Heard) -> Iterator[str]:
    """Speech that came back neither as text nor as an error; slices go by what came of their turn."""
    failed_turns = {account.job.request.turn_id for account in accounts if account.index in heard.failed}
    for account in accounts:
        if account.job.request.turn_id in failed_turns:
            continue
        spoken = {number for number in speech.numbers(account.packets) if not heard.spoken[number]}
        if lost := spoken - heard.read:
            came_to = heard.on_time.get(account.index) or "delivered"
            yield f"utterance {account.index} ({came_to}) lacks {len(lost)} of its packets"
