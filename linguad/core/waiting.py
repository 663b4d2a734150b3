"""Jobs that wait for a node: fair between tenants, in order within each lane (resolution 30).

Rules:
- One queue per index key; inside it deficit round robin over tenants, where a job costs its audio seconds.
- Only the first waiting job of a lane may be sent, so that a node sees the utterances of a session in order.
- A tenant pays for what is sent, not for what it gives up.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterator, Set

from msgspec import Struct, field

from linguad.core.job import Job
from linguad.core.key import Key

QUANTUM_S = 1.0
"""Audio seconds a tenant may send in its turn, about a short sentence; longer ones save for several turns.

So long a new tenant may wait for each other one. With 10, as long as a job may be, ten short jobs of a tenant
with many went before the only one of another, and tripled its time.
"""


class WaitingRoom:
    """Mutable state: the queue of each key, the jobs of each lane in order of utterance, jobs per tenant."""

    def __init__(self) -> None:
        self._queues: dict[Key, _Queue] = {}
        self._paired: dict[str, dict[Key, None]] = {}
        self._lanes: dict[str, list[Job]] = {}
        self._tenants: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._tenants.total()

    def __contains__(self, job: Job) -> bool:
        queue = self._queues.get(job.key)
        return queue is not None and job in queue

    def of_tenant(self, tenant: str) -> int:
        """How many jobs of a tenant wait."""
        return self._tenants[tenant]

    def add(self, job: Job) -> None:
        """Let a job wait; a retried one comes before the later utterances of its lane."""
        queue = self._queues.get(job.key)
        if queue is None:
            queue = self._queues[job.key] = _Queue()
            if job.key.node:
                self._paired.setdefault(job.key.node, {})[job.key] = None
        queue.add(job)
        insort(self._lanes.setdefault(job.request.lane, []), job, key=_utterance_index)
        self._tenants[job.request.tenant] += 1

    def send(self, job: Job) -> None:
        """The job found its node; its tenant pays for it."""
        self._take_out(job, _cost_s(job))

    def remove(self, job: Job) -> None:
        """The job waits no more, and did not find a node."""
        self._take_out(job, 0.0)

    def head(self, lane: str) -> Job | None:
        """The next job of a lane."""
        jobs = self._lanes.get(lane)
        return jobs[0] if jobs else None

    def place(self, job: Job) -> tuple[int, int]:
        """How many jobs of its lane wait before a job, and how many of all tenants for the same key."""
        lane = self._lanes.get(job.request.lane, ())
        queue = self._queues.get(job.key)
        earlier = sum(other.request.utterance_index < job.request.utterance_index for other in lane)
        return earlier, len(queue) if queue is not None else 0

    def keys(self) -> list[Key]:
        """Keys somebody waits for."""
        return list(self._queues)

    @property
    def key_count(self) -> int:
        """How many keys somebody waits for."""
        return len(self._queues)

    def keys_among(self, served: Set[Key], node_id: str) -> list[Key]:
        """Those of some keys that somebody waits for, and those that only this node may serve."""
        # sorted, because the order of a set is another one in each process
        found = sorted(key for key in served if key in self._queues)
        return found + list(self._paired.get(node_id, ()))

    def jobs(self, key: Key) -> list[Job]:
        """All jobs of a key."""
        queue = self._queues.get(key)
        return queue.jobs() if queue is not None else []

    def offers(self, key: Key) -> Iterator[Job]:
        """Jobs of a key that may be sent now, in the order of fairness.

        A job that is still here when the next one is asked for was passed over.
        """
        passed: set[str] = set()
        while (queue := self._queues.get(key)) is not None:
            job = queue.next(self._may_go, passed)
            if job is None:
                return
            yield job
            if job in self:
                passed.add(job.id)

    def _no_longer_paired(self, key: Key) -> None:
        keys = self._paired[key.node]
        del keys[key]
        if not keys:
            del self._paired[key.node]

    def _may_go(self, job: Job) -> bool:
        return self.head(job.request.lane) is job

    def _take_out(self, job: Job, cost_s: float) -> None:
        queue = self._queues[job.key]
        queue.remove(job, cost_s)
        if not queue:
            del self._queues[job.key]
            if job.key.node:
                self._no_longer_paired(job.key)
        lane = self._lanes[job.request.lane]
        lane.remove(job)
        if not lane:
            del self._lanes[job.request.lane]
        self._tenants[job.request.tenant] -= 1
        if not self._tenants[job.request.tenant]:
            del self._tenants[job.request.tenant]


class _Tenant(Struct):
    """Jobs of one tenant for one key in order of arrival, and the audio it may still send in its turn."""

    jobs: dict[str, Job] = field(default_factory=dict)
    credit_s: float = 0.0


class _Queue:
    """The tenants that wait for one key; the first of the ring has the turn."""

    def __init__(self) -> None:
        self._ring: OrderedDict[str, _Tenant] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._ring)

    def __len__(self) -> int:
        return sum(len(tenant.jobs) for tenant in self._ring.values())

    def __contains__(self, job: Job) -> bool:
        tenant = self._ring.get(job.request.tenant)
        return tenant is not None and job.id in tenant.jobs

    def jobs(self) -> list[Job]:
        return [job for tenant in self._ring.values() for job in tenant.jobs.values()]

    def add(self, job: Job) -> None:
        tenant = self._ring.get(job.request.tenant)
        if tenant is None:
            tenant = self._ring[job.request.tenant] = _Tenant()
        tenant.jobs[job.id] = job

    def remove(self, job: Job, cost_s: float) -> None:
        """Take a job out; a tenant that has no more, or cannot pay for the next, ends its turn."""
        name = job.request.tenant
        tenant = self._ring[name]
        del tenant.jobs[job.id]
        tenant.credit_s -= cost_s
        if not tenant.jobs:
            del self._ring[name]
        elif cost_s and tenant.credit_s < _cost_s(next(iter(tenant.jobs.values()))):
            self._ring.move_to_end(name)

    def next(self, may_go: Callable[[Job], bool], passed: Container[str]) -> Job | None:
        """The job whose turn it is, among those that may go and were not passed over."""
        barren = 0
        while barren < len(self._ring):
            name, tenant = next(iter(self._ring.items()))
            job = next((job for job in tenant.jobs.values() if job.id not in passed and may_go(job)), None)
            if job is None:
                barren += 1
            elif tenant.credit_s >= _cost_s(job):
                return job
            else:
                barren = 0
                tenant.credit_s += QUANTUM_S
                if tenant.credit_s >= _cost_s(job):
                    return job
            self._ring.move_to_end(name)
        return None


def _cost_s(job: Job) -> float:
    return job.seconds


def _utterance_index(job: Job) -> int:
    return job.request.utterance_index
