"""What must hold after everything that happens in linguad; see `endings.py` for what must hold later."""

from __future__ import annotations

from linguad.core.amnesty import GRACE_S
from linguad.core.job import Chosen, Job, JobStatus
from linguad.core.placement import TURN_OVERFLOW_SLOTS

from .accounts import Account
from .server import Server

ROUNDING_S = 1e-6


class Inspector:
    """Looks at the server after everything that happens in it; a look costs as the number of open jobs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._highest_caps: dict[str, int] = {}

    def look(self) -> None:
        """Raises AssertionError for the first thing that does not hold."""
        server, holding = self._server, dict[str, int]()
        waiting = audio_bytes = 0
        for job_id, account in list(server.accounts.open.items()):
            job = account.job
            for attempt in job.attempts:
                assert not attempt.holds_slot or attempt.open, f"{job_id} holds a slot after its attempt"
                if attempt.holds_slot:
                    holding[attempt.node_id] = holding.get(attempt.node_id, 0) + 1
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
        self._kept()

    def _kept(self) -> None:
        """Sessions hold what is counted for them, and no more results than they may."""
        rules, held = self._server.settings.sessions, 0
        for entry in self._server.entries:
            held += entry.session.buffered_bytes
            recovery = entry.session.recovery
            if recovery is not None:
                kept = len(recovery._kept)
                assert kept <= rules.kept_results, f"{entry.session.id} keeps {kept} results"
                assert recovery.kept_bytes <= rules.kept_bytes, f"{entry.session.id} keeps too many bytes"
        counted = self._server.session_bytes.used
        assert held == counted, f"sessions hold {held} bytes, {counted} are counted"

    def _slots(self, holding: dict[str, int]) -> None:
        """Slots taken are attempts that hold one, on every node; a node is online while it has a link."""
        server, fleet = self._server, self._server.fleet
        used = fleet.table.statistics()["used"]
        if server.member is not None:
            for node_id in list(fleet.nodes):
                if guests := server.member.guests.slots(node_id).total():
                    holding[node_id] = holding.get(node_id, 0) + guests
        held = sum(holding.values())
        assert used == held, f"{used} slots are taken, {held} attempts hold one"
        for node_id, attempts in holding.items():
            slots = fleet.slots_used(node_id)
            assert slots == attempts, f"{slots} slots of {node_id} are taken, {attempts} attempts hold one"
            cap = max(self._highest_caps.get(node_id, 0), fleet.nodes[node_id].cap)
            self._highest_caps[node_id] = cap
            assert slots <= cap + TURN_OVERFLOW_SLOTS, f"{node_id} has {slots} jobs, its cap is {cap}"
        online = sum(node.online and not node.owner for node in fleet.nodes.values())
        linked = len(server.nodes)
        assert online == linked, f"{online} nodes are online, {linked} have a link"
        owners = server.registered()
        assert len(set(owners)) == len(owners), f"a node has two links: {owners}"

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
            if job.status is JobStatus.PENDING:
                self._in_vain(job)
        for lane, index in sent:
            assert index <= first_waiting.get(lane, index), f"{index} of {lane} is sent before lower ones"

    def _in_vain(self, job: Job) -> None:
        """A job waits only while nobody who may do it is free, or for others of its lane."""
        dispatch = self._server.dispatch
        first = dispatch.waiting.head(job.request.lane) is job
        if first and not job.excluded_rows and not dispatch.placement._waits_for_its_turn(job):
            assert not self._server.fleet.has_room(job.key), f"{job.id} waits, though a node is free"

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
