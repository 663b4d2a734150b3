"""Whom the engine hands things to: sockets of nodes, other instances, sessions, books."""

from __future__ import annotations

from typing import Protocol

from linguad.core.actions import Assign, Cancel, Tell
from linguad.core.job import Job, Outcome
from linguad.core.metering import Usage
from linguad.errors import CloseReason
from linguad.wire.override import Override


class NodePort(Protocol):
    """Where frames for nodes go."""

    def send(self, node_id: str, text: str) -> bool:
        """Queue a frame; False when the node has no link or its queue is full."""
        ...

    def close(self, node_id: str, reason: CloseReason) -> None:
        """End the link of a node."""
        ...


class AfarPort(Protocol):
    """Where jobs for nodes of other instances go, and answers to other instances."""

    def assign(self, action: Assign) -> None:
        """Ask the owner of the node of an attempt."""
        ...

    def cancel(self, action: Cancel) -> None:
        """Tell the owner of a node that an attempt is given up."""
        ...

    def tell(self, action: Tell) -> None:
        """Send a letter."""
        ...

    def override(self, owner: str, node_id: str, said: Override) -> bool:
        """Tell an owner what an operator says about its node; False if it cannot be told."""
        ...


class SessionPort(Protocol):
    """Where news of jobs go."""

    def resolve(self, job: Job, outcome: Outcome) -> None:
        """A job ended."""
        ...

    def progress(self, job: Job, event: str) -> None:
        """A step in the life of a job."""
        ...

    def partial(self, job: Job, text: str, is_final: bool) -> None:
        """What was recognised so far."""
        ...

    def nodes_changed(self) -> None:
        """Nodes may have come or gone."""
        ...


class Books(Protocol):
    """Where it is written down what was used (gateway 11.7)."""

    def record(self, usage: Usage) -> None:
        """An attempt ended."""
        ...

    def session_ended(self, session_id: str) -> None:
        """A session is over: what it used can be settled."""
        ...
