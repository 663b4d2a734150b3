"""The dispatch core's hands: sends, delivers and counts (design 4.5).

Nothing here waits: `tasks.py` keeps the time for the daemon, the simulation in `tests/sim` for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import perf_counter

from linguad import log, metrics
from linguad.core.actions import (
    Action,
    Assign,
    AttemptEnded,
    AudioReleased,
    Cancel,
    Deliver,
    Dropped,
    Forgiven,
    Freed,
    Hand,
    NobodyFree,
    Partial,
    Progress,
    ServiceMissing,
    SessionOver,
    StoodStill,
    Tell,
)
from linguad.core.coverage import Coverage, Served, Unserved
from linguad.core.deadlines import earliest
from linguad.core.dispatch import Dispatch
from linguad.core.guests import Guests
from linguad.core.job import AttemptEnd, Job, JobRequest, MissingReason, Outcome
from linguad.core.metering import FINISHED, Metering
from linguad.core.node import Node
from linguad.core.pairing import LiveCode
from linguad.core.rules import JobRules, NodeRules
from linguad.core.services import Mark
from linguad.core.utterance import Audio
from linguad.dispatch.missing import MissingModels
from linguad.dispatch.ports import AfarPort, Books, NodePort, SessionPort
from linguad.dispatch.quality import Quality
from linguad.dispatch.selections import Selections
from linguad.errors import CloseReason
from linguad.net.outbox import Budget
from linguad.wire import codec
from linguad.wire.node import (
    JobAck,
    JobCancel,
    JobResult,
    JobStarted,
    NodeAsrPartial,
    NodeHeartbeat,
    NodeRegister,
)
from linguad.wire.override import Override

_SELECTION, _LATENCY = metrics.SELECTION_SECONDS[""], metrics.DISPATCH_LATENCY[""]

_WITHOUT_NODE = frozenset({MissingReason.NO_NODE, MissingReason.OVERLOADED})
_TOO_LATE = frozenset({AttemptEnd.TIMEOUT, AttemptEnd.SILENT})
_ORDINARY = FINISHED | {AttemptEnd.REFUSED}
"""Ends of attempts that are no reason for a line in the log."""

logger = log.get(__name__)


class Engine:
    """Every call goes to the core at once and its actions are performed before the call returns.

    Only of calls that an action leads to they are performed after it.
    """

    def __init__(
        self, dispatch: Dispatch, budget: Budget, now: Callable[[], float], *, slow_path_s: float = 0.05
    ) -> None:
        """`now` is the clock, monotonic s; a step that takes longer than `slow_path_s` is warned of."""
        self.dispatch = dispatch
        self._coverage = Coverage(dispatch.fleet)
        self.selections = Selections()
        self.quality = Quality()
        self._missing = MissingModels()
        self._slow_path_s = slow_path_s
        self._began = 0.0
        """When the step began whose actions are being done."""
        self.outcomes: Counter[str] = Counter()
        """Jobs that ended, by what they came to."""
        self._budget = budget
        self._now = now
        self._changed: Callable[[], object] = _nothing
        self._performing: list[Action] | None = None
        """What is being done; more may be added meanwhile."""
        self._nodes: NodePort
        self._sessions: SessionPort
        self._guests: Guests | None = None
        self._afar: AfarPort
        self._metering: Metering | None = None
        self._books: Books

    def connect(self, nodes: NodePort, sessions: SessionPort) -> None:
        """Say where frames and news go; once, before anything else."""
        self._nodes, self._sessions = nodes, sessions

    def join(self, guests: Guests, afar: AfarPort) -> None:
        """Work together with other instances; without this all nodes are here, and all jobs."""
        self._guests, self._afar = guests, afar

    def keep_books(self, metering: Metering, books: Books) -> None:
        """Say where usage is recorded; without this it is not."""
        self._metering, self._books = metering, books

    def when_changed(self, do: Callable[[], object]) -> None:
        """Say what is to be called after every change, which may have moved what is due."""
        self._changed = do

    @property
    def open_jobs(self) -> int:
        """Jobs that are not over, those of other instances too."""
        return self.dispatch.open_jobs + (0 if self._guests is None else len(self._guests))

    def due(self) -> float | None:
        """When `tick` has something to do, monotonic s."""
        if self._guests is None:
            return self.dispatch.due()
        return earliest(self.dispatch.due(), self._guests.due())

    def tick(self, now: float) -> None:
        """Do what became due."""
        began = perf_counter()
        self._perform("tick", began, self.dispatch.tick(now))
        if self._guests is not None:
            self.perform(self._guests.tick(now))

    def scan(self) -> None:
        """Look after silent nodes; for every few seconds."""
        now = self._now()
        for node in self.dispatch.fleet.scan(now):
            self._nodes.close(node.id, CloseReason.HEARTBEAT_TIMEOUT)
        self.tick(now)
        self._sessions.nodes_changed()

    def submit(self, request: JobRequest, audio: Audio) -> None:
        """Have an utterance translated; the outcome comes to the session port."""
        over = self._budget.over
        self._budget.take(len(audio.base64))
        metrics.JOBS_CREATED.inc()
        began = perf_counter()
        _, actions = self.dispatch.submit(request, audio, self._now(), refuse=over)
        self._perform("submit", began, actions)

    def unsupported_features(self, request: JobRequest) -> list[str]:
        """The features such jobs ask for, if they are required and no node has them."""
        return self._coverage.unsupported_features(self.dispatch.key_of(request))

    def unserved(self, request: JobRequest) -> Unserved | None:
        """What no ready node, busy or not, can do of such a job, with what is nearest; None if one can.

        The answer is that of this moment; alternatives may be some seconds old. Cheap: for every session.
        """
        return self._coverage.problem(request, self.dispatch.key_of(request), self._now())

    def is_served(self, request: JobRequest) -> bool:
        """Whether a ready node, busy or not, can do such a job now."""
        return self.dispatch.fleet.has_ready(self.dispatch.key_of(request))

    def languages(self) -> list[Served]:
        """The pairs that ready nodes serve anybody, speech into speech, sorted; a second old, or a few."""
        return self._coverage.pairs(self._now())

    def session_ended(self, session_id: str) -> None:
        """Cancel what a session still has running."""
        actions = self.dispatch.session_ended(session_id, self._now())
        self.perform([*actions, SessionOver(session_id)])

    def register(self, message: NodeRegister, connection: int) -> tuple[Node, list[Action]]:
        """Take a node in; the caller acknowledges first, then performs the actions. May raise WireError."""
        return self.dispatch.register(message, connection, self._now())

    def heartbeat(self, message: NodeHeartbeat) -> None:
        """A registered node reported."""
        began = perf_counter()
        self._perform("heartbeat", began, self.dispatch.heartbeat(message, self._now()))

    def override(self, node_id: str, said: Override) -> bool:
        """An operator says something about a known node; raises KeyError if there is none of that id.

        False, and nothing changes, if another instance has the node and cannot be told.
        """
        owner = self.dispatch.fleet.nodes[node_id].owner
        if owner and not self._afar.override(owner, node_id, said):
            return False
        self.perform(self.dispatch.override(node_id, said, self._now()))
        return True

    def change_rules(self, nodes: NodeRules, jobs: JobRules) -> None:
        """Live by other rules from now on; jobs that wait may have found their node, and keep their pools."""
        fleet = self.dispatch.fleet
        self.dispatch.placement.change_rules(jobs)
        fleet.change_rules(nodes)
        if self._guests is not None:
            self._guests.change_rules(jobs)
        for node in fleet.nodes.values():
            self.perform(self.dispatch.offers_changed(node, self._now()))
        self._sessions.nodes_changed()

    def pairing_code(self, node_id: str, asked_by: str) -> LiveCode:
        """A new pairing code for a registered node, which "node" or "admin" asked for."""
        logger.info("pairing_code_made", node=node_id, asked_by=asked_by)
        return self.dispatch.fleet.pairing.create(node_id, self._now())

    def redeem(self, pairing_code: str, origin: str) -> str:
        """The node that a code stands for, once; "" if it is wrong, or too many of this origin were."""
        return self.dispatch.fleet.pairing.redeem(pairing_code, origin, self._now()) or ""

    def result(self, message: JobResult, node_id: str) -> None:
        """A node answered."""
        began = perf_counter()
        guests = self._guests
        if guests is not None and message.job_id in guests:
            actions = guests.said(message, node_id, codec.encode(message), self._now())
        else:
            actions = self.dispatch.result(message, node_id, self._now())
        self._perform("result", began, actions)

    def progress(self, message: JobAck | JobStarted | NodeAsrPartial, node_id: str) -> None:
        """A node told how far it is."""
        guests = self._guests
        if guests is not None and message.job_id in guests:
            self.perform(guests.said(message, node_id, codec.encode(message), self._now()))
        else:
            self.perform(self.dispatch.progress(message, node_id))

    def service_missing(self, node_id: str, service_id: str, reason: str) -> None:
        """A registered node lacks a service it reports as running; `reason` is its word for why."""
        self.perform(self.dispatch.service_missing(node_id, service_id, reason, self._now()))

    def connection_lost(self, node_id: str, connection: int) -> None:
        """A node's socket is gone."""
        began, now = perf_counter(), self._now()
        self._perform("node_lost", began, self.dispatch.connection_lost(node_id, connection, now))
        if self._guests is not None:
            self.perform(self._guests.node_lost(node_id, now))

    def _perform(self, path: str, began: float, actions: list[Action]) -> None:
        """Do the actions of a step that began so long ago; a slow one is warned of."""
        decided = perf_counter()
        self._do_all(actions, began)
        if path == "submit":
            _SELECTION.observe(decided - began)
        if (ended := perf_counter()) - began >= self._slow_path_s:
            metrics.SLOW_PATHS.labels(path).inc()
            logger.warning(
                "slow_path",
                path=path,
                decide_ms=round((decided - began) * 1000, 1),
                perform_ms=round((ended - decided) * 1000, 1),
                actions=len(actions),
            )

    def perform(self, actions: list[Action]) -> None:
        """Do what was decided just now."""
        self._do_all(actions, perf_counter())

    def _do_all(self, actions: list[Action], began: float) -> None:
        """Do everything, in order, without awaiting; a bug in one action does not keep the others from it.

        What an action leads to comes after those that were decided before it: nodes get jobs in this order.
        """
        if self._performing is not None:
            self._performing += actions
            return
        self._performing, self._began = actions, began
        for action in actions:
            try:
                self._do(action)
            except Exception as error:
                metrics.ACTIONS_FAILED.inc()
                logger.error("action_failed", action=type(action).__name__, exc_info=error)
        self._performing = None
        self._changed()

    def _do(self, action: Action) -> None:
        match action:
            # those of every job come first: a class is compared with one after the other
            case Progress():
                self._sessions.progress(action.job, action.event)
            case Assign():
                self._assign(action)
            case AttemptEnded():
                self._attempt_ended(action)
            case AudioReleased():
                self._budget.give(action.size)
            case Deliver():
                self._deliver(action)
            case Partial():
                self._sessions.partial(action.job, action.text, action.is_final)
            case NobodyFree():
                self.selections.missed(action.job, action.refusing)
            case Cancel() if action.owner:
                self._afar.cancel(action)
            case Cancel():
                self._nodes.send(action.node_id, codec.encode(action.message))
            case Hand(message=str(frame)):
                self._nodes.send(action.node_id, frame)
            case Hand(message=JobCancel() as message):
                self._nodes.send(action.node_id, codec.encode(message))
            case Tell():
                self._afar.tell(action)
            case Freed():
                self.perform(self.dispatch.freed(action.node_id, self._now()))
            case SessionOver() if self._metering is not None:
                self._metering.session_ended(action.session_id)
                self._books.session_ended(action.session_id)
            case ServiceMissing():
                self._service_missing(action)
            case Forgiven():
                metrics.FAILURES_FORGIVEN.labels(action.why).inc()
                logger.info("failure_forgiven", node=action.node_id, why=action.why)
            case StoodStill():
                metrics.STANDSTILLS.inc()
                logger.warning("stood_still", seconds=round(action.seconds, 3))
            case Dropped():
                metrics.RESULTS_DROPPED.labels(action.why).inc()
                logger.info("result_dropped", node=action.node_id, job=action.wire_job_id, why=action.why)

    def _assign(self, action: Assign) -> None:
        job, attempt = action.job, action.attempt
        sent = True
        if attempt.owner:
            self._afar.assign(action)
        else:
            sent = self._nodes.send(attempt.node_id, codec.encode(action.message))
        self.selections.found(job, attempt)
        _LATENCY.observe(perf_counter() - self._began)
        logger.debug(
            "job_dispatched",
            session=job.request.session_id,
            job=job.id,
            attempt=attempt.number,
            node=attempt.node_id,
            owner=attempt.owner or None,
            sent=sent,
        )

    def _deliver(self, action: Deliver) -> None:
        job, outcome = action.job, action.outcome
        came_to = outcome.missing or "completed"
        self.outcomes[came_to] += 1
        if outcome.missing in _WITHOUT_NODE and outcome.details:
            self.selections.given_up(job, outcome.details)
        logger.info(
            "job_finished",
            session=job.request.session_id,
            trace=job.request.trace_id,
            utterance_trace=job.request.utterance_trace or None,
            job=job.id,
            index=job.request.utterance_index,
            src=job.request.src_lang,
            tgt=job.request.tgt_lang,
            audio_seconds=round(job.seconds, 3),
            outcome=came_to,
            error=outcome.error,
            attempts=len(job.attempts),
            node=outcome.attempt.node_id if outcome.attempt else _last_node(job),
            node_seconds=_node_seconds(outcome),
            seconds=round(self._now() - job.created_at, 3),
        )
        self.quality.count(job, outcome)
        if self._metering is not None:
            for usage in self._metering.delivered(job, outcome):
                self._books.record(usage)
        self._sessions.resolve(job, outcome)

    def _service_missing(self, action: ServiceMissing) -> None:
        self._missing.count(action)
        if action.mark is Mark.HOLDS:
            metrics.SERVICES_MISSING.inc()
            logger.warning("service_missing", node=action.node_id, service=action.service_id)

    def _attempt_ended(self, action: AttemptEnded) -> None:
        end = action.attempt.end or AttemptEnd.FAILED
        metrics.child(metrics.ATTEMPTS, end).inc()
        if end in _TOO_LATE:
            metrics.ACK_TIMEOUTS.inc()
        if self._metering is not None and (usage := self._metering.ended(action.job, action.attempt)):
            self._books.record(usage)
        if end not in _ORDINARY:
            logger.warning(
                "attempt_ended",
                job=action.job.id,
                attempt=action.attempt.number,
                node=action.attempt.node_id,
                end=end,
            )


def _last_node(job: Job) -> str | None:
    return job.attempts[-1].node_id if job.attempts else None


def _node_seconds(outcome: Outcome) -> float | None:
    """How long the node worked for a result as it says itself, but no longer than it had the job; s."""
    attempt, result = outcome.attempt, outcome.result
    if attempt is None or result is None:
        return None
    away_s = max(0.0, outcome.received_at - attempt.sent_at)
    said_ms = result.processing_time_ms
    return round(away_s if said_ms is None else min(away_s, said_ms / 1000), 4)


def _nothing() -> None:
    """Nobody asked to be called."""
