"""Webhooks: what is told to whom, when a delivery is tried again, how it is signed (gateway 11.5).

An event of a tenant makes one delivery for each of its webhooks that wants it. A delivery waits until it is
due, is tried, and then waits for its next try, has been delivered, or has failed for good:

    waiting --2xx--> delivered
    waiting --anything else, tries left--> waiting, due later
    waiting --anything else, no tries left, or 410, or the webhook is switched off--> failed

Times are Unix seconds. Chance comes from outside, as a number from 0 to 1.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

API_VERSION = "v1"
"""Version of the body of events."""

RETRY_SECONDS = (10, 60, 5 * 60, 30 * 60, 2 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)
"""How long after each failed try the next one comes: quickly for a restart, for two days for an outage."""

JITTER = 0.2
"""Each of them is longer or shorter by at most so much, so that an outage does not end in a crowd."""

GIVE_UP_SECONDS = 3 * 24 * 3600
"""A webhook that took nothing for so long is switched off."""

ROTATION_SECONDS = 24 * 3600
"""How long after a rotation the earlier secret signs too."""

MAX_PER_TENANT = 10
"""Webhooks of one tenant (gateway 11.5)."""

GONE = 410
"""Status by which a receiver wants to hear no more."""

SECRET_PREFIX = "whsec_"


class EventType(StrEnum):
    """What can be told."""

    TRANSLATION_COMPLETED = "translation.completed"
    TRANSLATION_FAILED = "translation.failed"
    JOB_COMPLETED = "job.completed"
    JOB_FAILED = "job.failed"
    SESSION_STARTED = "session.started"
    SESSION_ENDED = "session.ended"
    USAGE_THRESHOLD = "usage.threshold"
    PING = "ping"
    """Asked for by the receiver's owner; goes to one webhook, whatever it wants."""


class DeliveryState(StrEnum):
    """How far a delivery is."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


class Webhook(Struct, frozen=True, kw_only=True):
    """Where a tenant wants to be told something, without the secret."""

    id: str
    tenant_id: str
    url: str
    events: frozenset[EventType]
    created_at: float
    description: str = ""
    enabled: bool = True
    disabled_reason: str | None = None
    """Why it is off: a sentence, None while it is on."""
    generation: int = 1
    """Number of its secret; one more with each rotation."""
    rotated_at: float | None = None
    failing_since: float | None = None
    """The first failed try since the last that worked."""

    def wants(self, type: EventType) -> bool:
        """Whether an event makes a delivery."""
        return self.enabled and type in self.events


class Delivery(Struct, frozen=True, kw_only=True):
    """One event on its way to one webhook."""

    id: str
    webhook_id: str
    tenant_id: str
    event_id: str
    type: EventType
    body: bytes
    """What is sent and signed, the same at every try."""
    created_at: float
    due_at: float
    """When it is tried next."""
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    """Tries so far."""
    last_status: int | None = None
    """HTTP status of the last try, None if none came."""
    last_error: str = ""
    """What was wrong with the last try; "" if nothing."""
    finished_at: float | None = None


class Try(Struct, frozen=True, kw_only=True):
    """What one try came to."""

    at: float
    """Its end."""
    status: int | None = None
    """HTTP status of the answer, None without an answer."""
    error: str = ""
    """Why there was no answer: one sentence."""

    @property
    def delivered(self) -> bool:
        """Whether the receiver has taken it: any 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def problem(self) -> str:
        """What was wrong, for the owner of the webhook; "" if nothing."""
        if self.delivered:
            return ""
        return self.error if self.status is None else f"the receiver answered with status {self.status}"


def after(delivery: Delivery, tried: Try, chance: float, max_attempts: int) -> Delivery:
    """The delivery after a try; only one that waits is tried. `chance` from 0 to 1 sets the jitter."""
    assert delivery.state is DeliveryState.WAITING
    seen = replace(
        delivery, attempts=delivery.attempts + 1, last_status=tried.status, last_error=tried.problem
    )
    if tried.delivered:
        return replace(seen, state=DeliveryState.DELIVERED, finished_at=tried.at)
    pause = pause_after(seen.attempts, chance)
    if tried.status == GONE or seen.attempts >= max_attempts or pause is None:
        return replace(seen, state=DeliveryState.FAILED, finished_at=tried.at)
    return replace(seen, due_at=tried.at + pause)


def pause_after(attempts: int, chance: float) -> float | None:
    """Seconds from a failed try, the `attempts`th, to the next; None after the last."""
    if attempts > len(RETRY_SECONDS):
        return None
    return RETRY_SECONDS[attempts - 1] * (1 - JITTER + 2 * JITTER * chance)


def judged(webhook: Webhook, tried: Try) -> Webhook:
    """The webhook after a try of one of its deliveries: it may have to be switched off."""
    if tried.delivered:
        return replace(webhook, failing_since=None)
    if tried.status == GONE:
        return switched_off(webhook, f"the receiver answered with status {GONE}: it wants no more events")
    since = tried.at if webhook.failing_since is None else webhook.failing_since
    failing = replace(webhook, failing_since=since)
    if tried.at - since >= GIVE_UP_SECONDS:
        return switched_off(
            failing, f"every delivery has failed for 3 days, the last because {tried.problem}"
        )
    return failing


def switched_off(webhook: Webhook, reason: str) -> Webhook:
    """The webhook without further deliveries."""
    return replace(webhook, enabled=False, disabled_reason=reason)


def switched_on(webhook: Webhook) -> Webhook:
    """The webhook as if nothing had failed before."""
    return replace(webhook, enabled=True, disabled_reason=None, failing_since=None)


def rotated(webhook: Webhook, now: float) -> Webhook:
    """The webhook with a new secret; the earlier one signs too for a day, older ones no more."""
    return replace(webhook, generation=webhook.generation + 1, rotated_at=now)


def secret(key: bytes, webhook_id: str, generation: int) -> str:
    """A secret of a webhook: `whsec_` and 43 characters, made of the server's key, so that none is stored."""
    made = hmac.digest(key, f"webhook {webhook_id} {generation}".encode(), hashlib.sha256)
    return SECRET_PREFIX + base64.urlsafe_b64encode(made).decode().rstrip("=")


def secrets_in_force(key: bytes, webhook: Webhook, now: float) -> list[str]:
    """The secrets that sign at this moment, the newest first."""
    found = [secret(key, webhook.id, webhook.generation)]
    if webhook.rotated_at is not None and now < webhook.rotated_at + ROTATION_SECONDS:
        found.append(secret(key, webhook.id, webhook.generation - 1))
    return found


def signature(secrets: Sequence[str], timestamp: int, body: bytes) -> str:
    """The value of X-Lingua-Signature: `t=<timestamp>,v1=<hex>`, with one `v1` for each secret."""
    message = b"%d.%b" % (timestamp, body)
    signs = [hmac.digest(one.encode(), message, hashlib.sha256).hex() for one in secrets]
    return ",".join([f"t={timestamp}", *(f"v1={sign}" for sign in signs)])


def headers(delivery: Delivery, secrets: Sequence[str], now: float) -> dict[str, str]:
    """The headers of the next try of a delivery, which is made `now`."""
    timestamp = int(now)
    return {
        "Content-Type": "application/json",
        "X-Lingua-Event": delivery.type.value,
        "X-Lingua-Event-Id": delivery.event_id,
        # unique for each try, and still leads to the delivery
        "X-Lingua-Delivery": f"{delivery.id}.{delivery.attempts + 1}",
        "X-Lingua-Timestamp": str(timestamp),
        "X-Lingua-Signature": signature(secrets, timestamp, delivery.body),
    }
