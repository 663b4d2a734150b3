"""The courier: retries on schedule (fake clock, memory queue), and real HTTPS receivers on loopback."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from msgspec.structs import replace
from prometheus_client import REGISTRY
from tls_server import Exchange, make_certificate, web_server
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.core.webhooks import (
    RETRY_SECONDS,
    Delivery,
    DeliveryState,
    EventType,
    Try,
    Webhook,
    judged,
    rotated,
    secret,
    switched_off,
)
from linguad.errors import StoreError
from linguad.gateway.webhooks import courier as module
from linguad.gateway.webhooks.courier import PER_WEBHOOK, Courier, CourierRules, Sent
from linguad.gateway.webhooks.post import GuardedPost
from linguad.metrics import WEBHOOK_EVENTS_LOST
from linguad.net.guard import AddressRefused
from linguad.net.http_client import HttpError

KEY = b"k" * 32
EPOCH = 1_700_000_000.0


class Memory:
    """Directory and queue in memory, as the store has them."""

    def __init__(self, *webhooks: Webhook) -> None:
        self.webhooks = {webhook.id: webhook for webhook in webhooks}
        self.deliveries: dict[str, Delivery] = {}
        self.away = False

    def find(self, webhook_id: str) -> Webhook | None:
        return self.webhooks.get(webhook_id)

    def wanting(self, tenant_id: str, type: EventType) -> list[Webhook]:
        return [one for one in self.webhooks.values() if one.tenant_id == tenant_id and one.wants(type)]

    async def add(self, new: Sequence[Delivery]) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreError("The store is away.")
        self.deliveries |= {one.id: one for one in new}

    async def claim(
        self, now: float, until: float, *, most: int, per_webhook: int, running: Mapping[str, int]
    ) -> list[Delivery]:
        await trio.lowlevel.checkpoint()
        claimed: list[Delivery] = []
        counts = dict(running)
        for one in sorted(self._waiting(), key=lambda one: one.due_at):
            if one.due_at <= now and len(claimed) < most and counts.get(one.webhook_id, 0) < per_webhook:
                counts[one.webhook_id] = counts.get(one.webhook_id, 0) + 1
                self.deliveries[one.id] = replace(one, due_at=until)
                claimed.append(one)
        return claimed

    async def finish(self, delivery: Delivery, tried: Try) -> Webhook | None:
        await trio.lowlevel.checkpoint()
        self.deliveries[delivery.id] = delivery
        before = self.webhooks[delivery.webhook_id]
        after = self.webhooks[delivery.webhook_id] = judged(before, tried)
        return after if before.enabled and not after.enabled else None

    async def end(self, webhook_id: str, reason: str, now: float) -> None:
        await trio.lowlevel.checkpoint()
        for one in self._waiting():
            if one.webhook_id == webhook_id:
                self.deliveries[one.id] = replace(
                    one, state=DeliveryState.FAILED, last_error=reason, finished_at=now
                )

    async def next_due(self, full: Sequence[str]) -> float | None:
        await trio.lowlevel.checkpoint()
        return min((one.due_at for one in self._waiting() if one.webhook_id not in full), default=None)

    async def waiting(self) -> int:
        await trio.lowlevel.checkpoint()
        return len(self._waiting())

    async def sweep(self, before: float) -> int:
        await trio.lowlevel.checkpoint()
        old = [id for id, one in self.deliveries.items() if (one.finished_at or math.inf) < before]
        for id in old:
            del self.deliveries[id]
        return len(old)

    def _waiting(self) -> list[Delivery]:
        return [one for one in self.deliveries.values() if one.state is DeliveryState.WAITING]

    @property
    def only(self) -> Delivery:
        (one,) = self.deliveries.values()
        return one


def webhook(id: str = "wh_1", url: str = "https://receiver.example/") -> Webhook:
    return Webhook(
        id=id, tenant_id="t", url=url, events=frozenset({EventType.JOB_COMPLETED}), created_at=EPOCH
    )


class Receiver:
    """Answers tries as a test says, and keeps when and what came."""

    def __init__(self, answer: Callable[[int], Sent]) -> None:
        self._answer = answer
        self.got: list[tuple[float, dict[str, str], bytes]] = []

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        await trio.lowlevel.checkpoint()
        self.got.append((trio.current_time(), dict(headers), body))
        return self._answer(len(self.got))


@asynccontextmanager
async def running(memory: Memory, post: Any, **rules: Any) -> AsyncIterator[Courier]:
    courier = Courier(
        memory,
        memory,
        post,
        KEY,
        CourierRules(**rules),
        clock=lambda: EPOCH + trio.current_time(),
        chance=lambda: 0.5,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(courier.run)
        yield courier
        nursery.cancel_scope.cancel()


async def until(true: Callable[[], object]) -> None:
    """Wait, on a clock that jumps, until something holds."""
    while not true():  # noqa: ASYNC110 # the clock jumps, so that this costs nothing
        await trio.sleep(30)


async def test_failures_are_retried_on_schedule_with_the_same_event(autojump_clock: MockClock) -> None:
    memory, receiver = Memory(webhook()), Receiver(lambda n: Sent("status", 503))
    async with running(memory, receiver) as courier:
        courier.emit("t", "job.completed", {"job_id": "j"})
        await until(lambda: memory.deliveries and memory.only.state is not DeliveryState.WAITING)
    times = [at for at, _, _ in receiver.got]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == pytest.approx(RETRY_SECONDS, abs=0.1)
    assert {headers["X-Lingua-Event-Id"] for _, headers, _ in receiver.got} == {memory.only.event_id}
    assert len({headers["X-Lingua-Delivery"] for _, headers, _ in receiver.got}) == 9
    assert len({body for _, _, body in receiver.got}) == 1
    # signed anew each time, or receivers would take late tries for replayed ones
    assert len({headers["X-Lingua-Signature"] for _, headers, _ in receiver.got}) == 9
    assert (memory.only.attempts, memory.only.last_status) == (9, 503)


async def test_a_retry_that_works_ends_it(autojump_clock: MockClock) -> None:
    memory = Memory(webhook())
    receiver = Receiver(lambda n: Sent("delivered", 200) if n == 3 else Sent("timeout", error="no answer"))
    async with running(memory, receiver) as courier:
        courier.emit("t", "job.completed", {})
        await until(lambda: memory.deliveries and memory.only.state is DeliveryState.DELIVERED)
        await trio.sleep(8 * 86400)
        assert memory.deliveries == {}, "old ones are swept"
    assert len(receiver.got) == 3


async def test_only_webhooks_that_want_an_event_get_it(autojump_clock: MockClock) -> None:
    other = replace(webhook("wh_2"), events=frozenset({EventType.JOB_FAILED}))
    off = switched_off(webhook("wh_3"), "by its owner")
    foreign = replace(webhook("wh_4"), tenant_id="u")
    memory, receiver = Memory(webhook(), other, off, foreign), Receiver(lambda n: Sent("delivered", 200))
    async with running(memory, receiver) as courier:
        courier.emit("t", "job.completed", {"n": 1})
        courier.emit("t", "session.started", {"n": 2})
        await trio.sleep(100)
        with pytest.raises(ValueError, match=r"job\.eaten"):
            courier.emit("t", "job.eaten", {})
    ((_, _, body),) = receiver.got
    assert memory.only.webhook_id == "wh_1"
    event = json.loads(body)
    assert event | {"id": "", "created_at": ""} == {
        "id": "",
        "type": "job.completed",
        "created_at": "",
        "tenant_id": "t",
        "api_version": "v1",
        "data": {"n": 1},
    }
    assert event["id"] == memory.only.event_id
    assert event["created_at"].startswith("2023-11-14T22:13:2")


async def test_410_switches_off_at_once(autojump_clock: MockClock) -> None:
    memory, receiver = Memory(webhook()), Receiver(lambda n: Sent("gone", 410))
    async with running(memory, receiver) as courier:
        courier.emit("t", "job.completed", {})
        await until(lambda: not memory.webhooks["wh_1"].enabled)
        courier.emit("t", "job.completed", {})
        await trio.sleep(100)
    assert memory.only.state is DeliveryState.FAILED
    assert "410" in (memory.webhooks["wh_1"].disabled_reason or "")
    assert len(receiver.got) == 1


async def test_three_days_of_failures_switch_off(autojump_clock: MockClock) -> None:
    memory, receiver = Memory(webhook()), Receiver(lambda n: Sent("status", 500))
    async with running(memory, receiver) as courier:
        for _ in range(30):
            courier.emit("t", "job.completed", {})
            await trio.sleep(3 * 3600)
    since, last = receiver.got[0][0], receiver.got[-1][0]
    assert 3 * 86400 <= last - since < 3 * 86400 + 3 * 3600
    assert "3 days" in (memory.webhooks["wh_1"].disabled_reason or "")


async def test_deliveries_of_a_webhook_that_went_away_end(autojump_clock: MockClock) -> None:
    memory, receiver = Memory(webhook()), Receiver(lambda n: Sent("status", 500))
    async with running(memory, receiver) as courier:
        courier.emit("t", "job.completed", {})
        await trio.sleep(1)
        del memory.webhooks["wh_1"]
        await trio.sleep(100)
    assert memory.only.state is DeliveryState.FAILED
    assert len(receiver.got) == 1


async def test_a_slow_receiver_does_not_hold_up_others(autojump_clock: MockClock) -> None:
    """One webhook has at most four tries at once, all together have no more than there is room for."""
    slow, fast = webhook("wh_slow", "https://slow.example/"), webhook("wh_fast", "https://fast.example/")
    memory = Memory(slow, fast)
    now: dict[str, int] = {}
    most: dict[str, int] = {}
    done: list[str] = []

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        for name in (url, "all"):
            now[name] = now.get(name, 0) + 1
            most[name] = max(most.get(name, 0), now[name])
        await trio.sleep(10 if url == slow.url else 0.01)
        for name in (url, "all"):
            now[name] -= 1
        done.append(url)
        return Sent("delivered", 200)

    async with running(memory, post, at_once=6) as courier:
        for _ in range(40):
            courier.emit("t", "job.completed", {})
        await trio.sleep(5)
        assert done.count(fast.url) == 40
        assert done.count(slow.url) == 0
        await until(lambda: len(done) == 80)
    assert most[slow.url] == PER_WEBHOOK
    assert most[fast.url] <= PER_WEBHOOK
    assert most["all"] <= 6


async def test_events_wait_for_the_store_and_too_many_are_counted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNWRITTEN_BYTES", 10_000)
    memory, receiver = Memory(webhook()), Receiver(lambda n: Sent("delivered", 200))
    memory.away = True
    lost = WEBHOOK_EVENTS_LOST._value.get()
    async with running(memory, receiver) as courier:
        for number in range(100):
            courier.emit("t", "job.completed", {"n": number, "pad": "x" * 300})
        dropped = WEBHOOK_EVENTS_LOST._value.get() - lost
        assert 70 < dropped < 100
        assert REGISTRY.get_sample_value("linguad_webhook_queue", {"state": "unwritten"}) == 100 - dropped
        await trio.sleep(10)
        assert receiver.got == []
        memory.away = False
        await until(lambda: len(receiver.got) == 100 - dropped)
        courier.emit("t", "job.completed", {})
        await until(lambda: len(receiver.got) == 101 - dropped)
    assert WEBHOOK_EVENTS_LOST._value.get() - lost == dropped


async def test_what_is_unwritten_at_the_end_still_goes_to_the_store(autojump_clock: MockClock) -> None:
    memory, receiver = Memory(webhook()), Receiver(lambda n: Sent("delivered", 200))
    async with running(memory, receiver) as courier:
        await wait_all_tasks_blocked()
        courier.emit("t", "job.completed", {})
    assert memory.only.state is DeliveryState.WAITING
    assert receiver.got == []


async def test_a_daemon_ends_in_order_although_its_store_is_away(autojump_clock: MockClock) -> None:
    memory, receiver = Memory(webhook()), Receiver(lambda n: Sent("delivered", 200))
    memory.away = True
    async with running(memory, receiver) as courier:
        courier.emit("t", "job.completed", {})
        await trio.sleep(5)
    assert memory.deliveries == {}


async def test_ping_and_redelivery(autojump_clock: MockClock) -> None:
    memory, receiver = Memory(webhook()), Receiver(lambda n: Sent("delivered", 200))
    async with running(memory, receiver) as courier:
        pinged = await courier.ping(webhook())
        await until(lambda: memory.deliveries[pinged.id].state is DeliveryState.DELIVERED)
        again = await courier.redeliver(memory.deliveries[pinged.id])
        await until(lambda: memory.deliveries[again.id].state is DeliveryState.DELIVERED)
    first, second = receiver.got
    assert first[1]["X-Lingua-Event"] == "ping"
    assert first[1]["X-Lingua-Event-Id"] == second[1]["X-Lingua-Event-Id"]
    assert first[1]["X-Lingua-Delivery"] != second[1]["X-Lingua-Delivery"]
    assert first[2] == second[2]


Serve = Callable[[Exchange], Awaitable[None]]


async def send_one(serve: Serve, tmp_path: Path, one: Webhook, at: float = EPOCH) -> tuple[Sent, Delivery]:
    """One delivery to a real HTTPS receiver, by the real client."""
    certificate = make_certificate(tmp_path)
    memory = Memory()
    post = GuardedPost(["127.0.0.0/8", "::1"], 10, certificate.client)
    sent: list[Sent] = []

    async def noting(url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        sent.append(await post(url, headers, body))
        return sent[-1]

    async with web_server(serve, certificate.server) as port:
        one = replace(one, url=f"https://localhost:{port}/hook?a=1")
        memory.webhooks[one.id] = one
        courier = Courier(memory, memory, noting, KEY, CourierRules(), clock=lambda: at, chance=lambda: 0.5)
        done = trio.Event()
        finish = memory.finish

        async def finishing(delivery: Delivery, tried: Try) -> Webhook | None:
            off = await finish(delivery, tried)
            done.set()
            return off

        memory.finish = finishing  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(courier.run)
            courier.emit("t", "job.completed", {"words": "žluť"})
            await done.wait()
            nursery.cancel_scope.cancel()
    return sent[0], memory.only


def signed(secret: str, timestamp: str, body: bytes) -> str:
    """The documented formula."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


async def test_a_delivery_over_https_verifies(tmp_path: Path) -> None:
    got: list[Exchange] = []

    async def serve(exchange: Exchange) -> None:
        got.append(exchange)
        await exchange.answer(200, b"thanks" * 10_000)

    one = rotated(webhook(), EPOCH - 10)
    sent, delivery = await send_one(serve, tmp_path, one)
    assert sent == Sent("delivered", 200)
    assert delivery.state is DeliveryState.DELIVERED
    seen = got[0].seen
    assert (seen.method, seen.target) == ("POST", "/hook?a=1")
    timestamp = seen.headers["x-lingua-timestamp"]
    assert timestamp == str(int(EPOCH))
    new, old = (signed(secret(KEY, "wh_1", generation), timestamp, seen.body) for generation in (2, 1))
    assert seen.headers["x-lingua-signature"] == f"t={timestamp},v1={new},v1={old}"
    assert seen.headers["content-type"] == "application/json"
    assert msgspec.json.decode(seen.body)["data"] == {"words": "žluť"}


async def test_redirects_are_failures(tmp_path: Path) -> None:
    asked: list[str] = []

    async def serve(exchange: Exchange) -> None:
        asked.append(exchange.seen.target)
        await exchange.answer(307, b"", [("location", "/elsewhere")])

    sent, delivery = await send_one(serve, tmp_path, webhook())
    assert sent == Sent("redirect", 307)
    assert delivery.state is DeliveryState.WAITING
    assert delivery.last_error == "the receiver answered with status 307"
    assert asked == ["/hook?a=1"]


async def test_a_slow_receiver_is_cut_after_ten_seconds(tmp_path: Path, mock_clock: MockClock) -> None:
    async def serve(exchange: Exchange) -> None:
        mock_clock.jump(10)
        await trio.sleep_forever()

    sent, delivery = await send_one(serve, tmp_path, webhook())
    assert (sent.outcome, sent.status) == ("timeout", None)
    assert "did not answer within 10 s" in delivery.last_error
    assert delivery.state is DeliveryState.WAITING
    assert "hook" not in delivery.last_error


async def test_an_answer_without_end_counts_as_it_began(tmp_path: Path, mock_clock: MockClock) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        await trio.sleep_forever()

    assert (await send_one(serve, tmp_path, webhook()))[0] == Sent("delivered", 204)

    async def drip(exchange: Exchange) -> None:
        await exchange.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nslow")
        await wait_all_tasks_blocked(0.05)
        mock_clock.jump(10)
        await trio.sleep_forever()

    assert (await send_one(drip, tmp_path, webhook()))[0] == Sent("delivered", 200)


@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        ("https://127.0.0.1:1/", "refused"),
        ("https://localhost:1/", "refused"),
        ("https://[::ffff:10.0.0.1]/", "refused"),
        ("http://8.8.8.8/", "refused"),
    ],
)
async def test_targets_that_are_refused(url: str, outcome: str) -> None:
    post = GuardedPost([], 10)
    assert (await post(url, {}, b"")).outcome == outcome
    with pytest.raises(AddressRefused, match="webhook_allowed_networks"):
        await post.check(url)


async def test_targets_that_may_be() -> None:
    post = GuardedPost(["127.0.0.0/8"], 10)
    for url in ("https://8.8.8.8/", "http://127.0.0.1:9/", "https://127.0.0.1/"):
        await post.check(url)
    with pytest.raises(HttpError, match="not one like"):
        await post.check("gopher://8.8.8.8/")
