"""Letters about jobs of one instance on a node of another (design 7).

The asker has the job, the owner has the socket of the node. What node and scheduler say to each other travels
beside the letter as it is on the node's own wire, so that a frame is written and read once.
"""

from __future__ import annotations

from linguad.wire.letters import Letter


class JobAssigned(Letter, frozen=True, tag="job_assigned"):
    """Asker to owner: take a slot of the node and send it the frame beside, a `job_assign`; or refuse."""

    node: str
    job: str
    """The id by which the node knows the attempt, as in all other letters."""
    session: str
    """The wire session, which the node must see in order."""
    trace: str
    seconds: float
    """Length of its audio."""
    within_s: float
    """How long the asker waits for an answer."""
    after: str = ""
    """What the node got before it of the wire session and has not answered; without it the job is refused."""
    in_turn: bool = False
    """It belongs to a turn that the node has begun, and may take a slot above the cap (resolution 26)."""
    deferrable: bool = False
    """The node may keep it back and answer with a later slice (node-protocol 6.5)."""


class JobCalledOff(Letter, frozen=True, tag="job_called_off"):
    """Asker to owner: no answer is wanted any more, for a `reason` of node-protocol 2.6."""

    node: str
    job: str
    reason: str


class JobsOpen(Letter, frozen=True, tag="jobs_open"):
    """Asker to owner: these and no others still wait for its nodes; repairs what went wrong before."""

    jobs: list[str]


class JobRefused(Letter, frozen=True, tag="job_refused"):
    """Owner to asker: the node did not get the job, or will not answer it; `why` is a metric label."""

    node: str
    job: str
    why: str


class NodeSaid(Letter, frozen=True, tag="node_said"):
    """Owner to asker: the frame beside, about a job of the asker."""

    node: str
    job: str


class JobsLost(Letter, frozen=True, tag="jobs_lost"):
    """Owner to asker: the socket of the node is gone, and with it these jobs."""

    node: str
    jobs: list[str]
