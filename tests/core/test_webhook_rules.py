"""Rules of webhooks: the ladder of retries, when a webhook is switched off, and signatures."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from linguad.core.webhooks import (
    GIVE_UP_SECONDS,
    JITTER,
    RETRY_SECONDS,
    Delivery,
    DeliveryState,
    EventType,
    Try,
    Webhook,
    after,
    headers,
    judged,
    pause_after,
    rotated,
    secret,
    secrets_in_force,
    signature,
    switched_on,
)

MAX_ATTEMPTS = 9
KEY = b"k" * 32
chances = st.floats(0, 1)
failures = st.one_of(
    st.builds(dict, status=st.one_of(st.integers(100, 199), st.integers(300, 599))),
    st.just({"error": "no answer within 10 s"}),
)


def webhook() -> Webhook:
    return Webhook(
        id="wh_1",
        tenant_id="t",
        url="https://example.com/",
        events=frozenset({EventType.JOB_COMPLETED}),
        created_at=0,
    )


def delivery() -> Delivery:
    return Delivery(
        id="dlv_1",
        webhook_id="wh_1",
        tenant_id="t",
        event_id="evt_1",
        type=EventType.JOB_COMPLETED,
        body=b'{"a":1}',
        created_at=100,
        due_at=100,
    )


def test_the_ladder_is_the_documented_one() -> None:
    assert [pause_after(n, 0.5) for n in range(1, 10)] == [
        *(10, 60, 300, 1800, 7200, 21600, 43200, 86400),
        None,
    ]
    assert pause_after(1, 0) == pytest.approx(8)
    assert pause_after(1, 1) == pytest.approx(12)


@given(st.integers(1, 8), chances)
def test_jitter_stays_in_its_bounds(attempts: int, chance: float) -> None:
    pause = pause_after(attempts, chance)
    assert pause is not None
    assert abs(pause / RETRY_SECONDS[attempts - 1] - 1) <= JITTER + 1e-9


class Life(RuleBasedStateMachine):
    """A delivery and its webhook through any tries, against a plain count of them."""

    def __init__(self) -> None:
        super().__init__()
        self.delivery = delivery()
        self.webhook = webhook()
        self.now = 100.0
        self.tries = 0
        self.failing_since: float | None = None
        self.gone = False

    waiting = precondition(lambda self: self.delivery.state is DeliveryState.WAITING)

    @waiting
    @rule(failed=failures, chance=chances, late=st.floats(0, 1e5))
    def fail(self, failed: dict[str, object], chance: float, late: float) -> None:
        self.now = max(self.now, self.delivery.due_at) + late
        tried = Try(at=self.now, **failed)  # type: ignore[arg-type]
        self._try(tried, chance)
        self.gone |= tried.status == 410
        self.failing_since = self.now if self.failing_since is None else self.failing_since
        assert self.delivery.last_error

    @waiting
    @rule(status=st.integers(200, 299), chance=chances)
    def succeed(self, status: int, chance: float) -> None:
        self.now = max(self.now, self.delivery.due_at)
        self._try(Try(at=self.now, status=status), chance)
        assert self.delivery.state is DeliveryState.DELIVERED
        assert self.delivery.last_error == ""
        self.failing_since = None

    @precondition(lambda self: self.delivery.state is not DeliveryState.WAITING)
    @rule()
    def the_next_event_comes(self) -> None:
        self.delivery = delivery()
        self.tries = 0

    @precondition(lambda self: not self.webhook.enabled)
    @rule()
    def the_owner_switches_it_on(self) -> None:
        self.webhook = switched_on(self.webhook)
        self.gone, self.failing_since = False, None

    def _try(self, tried: Try, chance: float) -> None:
        before = self.delivery
        self.delivery = after(before, tried, chance, MAX_ATTEMPTS)
        self.webhook = judged(self.webhook, tried)
        self.tries += 1
        same = (before.id, before.event_id, before.body, before.created_at)
        assert same == (
            *(self.delivery.id, self.delivery.event_id),
            *(self.delivery.body, self.delivery.created_at),
        )

    @invariant()
    def tries_are_counted_and_bounded(self) -> None:
        assert self.delivery.attempts == self.tries <= MAX_ATTEMPTS

    @invariant()
    def only_what_waits_has_a_next_try_in_time_to_come(self) -> None:
        if self.delivery.state is DeliveryState.WAITING:
            assert self.delivery.finished_at is None
            assert self.tries == 0 or self.delivery.due_at > self.now
        else:
            assert self.delivery.finished_at == self.now

    @invariant()
    def it_is_switched_off_by_410_or_three_days_of_failures_only(self) -> None:
        long = self.failing_since is not None and self.now - self.failing_since >= GIVE_UP_SECONDS
        if self.webhook.enabled:
            assert not self.gone
            assert not long
            assert self.webhook.disabled_reason is None
            assert self.webhook.failing_since == self.failing_since
        else:
            assert self.webhook.disabled_reason


TestLife = Life.TestCase


def test_410_ends_at_once() -> None:
    tried = Try(at=101, status=410)
    assert after(delivery(), tried, 0.5, MAX_ATTEMPTS).state is DeliveryState.FAILED
    off = judged(webhook(), tried)
    assert not off.enabled
    assert "410" in (off.disabled_reason or "")


def test_what_a_webhook_wants() -> None:
    assert webhook().wants(EventType.JOB_COMPLETED)
    assert not webhook().wants(EventType.JOB_FAILED)
    assert not judged(webhook(), Try(at=1, status=410)).wants(EventType.JOB_COMPLETED)


@given(st.binary(), st.integers(0, 2**40))
def test_the_signature_is_the_documented_formula(body: bytes, timestamp: int) -> None:
    made = signature(["whsec_new", "whsec_old"], timestamp, body)
    expected = [
        hmac.new(one, str(timestamp).encode() + b"." + body, hashlib.sha256).hexdigest()
        for one in (b"whsec_new", b"whsec_old")
    ]
    assert made == f"t={timestamp},v1={expected[0]},v1={expected[1]}"


def test_secrets_are_unlike_and_long() -> None:
    made = {secret(KEY, "wh_1", 1), secret(KEY, "wh_1", 2), secret(KEY, "wh_11", 1), secret(b"x", "wh_1", 1)}
    assert len(made) == 4
    assert all(one.startswith("whsec_") and len(one) == 6 + 43 for one in made)
    assert secret(KEY, "wh_1", 1) == secret(KEY, "wh_1", 1)


def test_two_secrets_sign_for_a_day_after_a_rotation() -> None:
    first = webhook()
    assert secrets_in_force(KEY, first, 0) == [secret(KEY, "wh_1", 1)]
    second = rotated(first, 1000)
    assert secrets_in_force(KEY, second, 1000) == [secret(KEY, "wh_1", 2), secret(KEY, "wh_1", 1)]
    assert secrets_in_force(KEY, second, 1000 + 86400) == [secret(KEY, "wh_1", 2)]
    third = rotated(second, 2000)
    assert secrets_in_force(KEY, third, 2001) == [secret(KEY, "wh_1", 3), secret(KEY, "wh_1", 2)]


def test_headers_of_a_try() -> None:
    made = headers(delivery(), ["whsec_a"], 1234.9)
    assert made == {
        "Content-Type": "application/json",
        "X-Lingua-Event": "job.completed",
        "X-Lingua-Event-Id": "evt_1",
        "X-Lingua-Delivery": "dlv_1.1",
        "X-Lingua-Timestamp": "1234",
        "X-Lingua-Signature": signature(["whsec_a"], 1234, b'{"a":1}'),
    }
    again = headers(after(delivery(), Try(at=1300, status=500), 0.5, 9), ["whsec_a"], 1400)
    assert (again["X-Lingua-Event-Id"], again["X-Lingua-Delivery"]) == ("evt_1", "dlv_1.2")
