"""Requests with an `Idempotency-Key`, through the app and into a database (gateway 11.8)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from house import EPOCH, House
from quart import Response, jsonify, request

from linguad.errors import StoreError
from linguad.gateway.access.protect import protected
from linguad.gateway.idempotency import FORGET_EVERY_S, Idempotency
from linguad.store.database import Database
from linguad.store.idempotency import IdempotencyRecords
from linguad.web.problems import Problem

Work = Callable[[], Awaitable[Response]]


class Shop:
    """A house with views that do something once; `work` is what."""

    def __init__(self, database: Database) -> None:
        self.house = House()
        self.key = self.house.keys.add()
        self.database = database
        self.done = 0
        self.once = Idempotency(IdempotencyRecords(database), wall=lambda: EPOCH + self.house.now)
        self.work: Work = self.make
        app, admission = self.house.app, self.house.admission

        @app.post("/v1/things")
        @protected(admission)
        async def things() -> Response:
            return await self.once.once(await request.get_json(), self.count, secret=["secret", "a.b", "n.o"])

        @app.post("/v1/things/<name>")
        @protected(admission)
        async def named(name: str) -> Response:
            return await self.once.once(None, self.count)

    async def count(self) -> Response:
        self.done += 1
        return await self.work()

    async def make(self) -> Response:
        answer = jsonify({"number": self.done, "secret": "whsec_x", "a": {"b": "lk_x", "c": 1}})
        answer.status_code = 201
        answer.headers["Location"] = f"/v1/things/{self.done}"
        answer.headers["X-Other"] = "not kept"
        return answer

    async def ask(
        self, key: str | None = "key-1", given: Any = None, path: str = "/v1/things", **more: Any
    ) -> tuple[int, Any, Any]:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.house.ask(
            path, more.pop("credential", self.key), method="POST", json=given or {"a": 1}, headers=headers
        )


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    database = Database(f"sqlite:///{tmp_path / 'linguad.db'}")
    await database.open()
    yield Shop(database)
    await database.close()


async def test_without_a_key_each_request_runs(shop: Shop) -> None:
    for number in (1, 2):
        status, body, headers = await shop.ask(None)
        assert (status, body["number"]) == (201, number)
        assert "Idempotency-Replayed" not in headers


async def test_the_same_again_gives_the_same_answer(shop: Shop) -> None:
    status, body, headers = await shop.ask(given={"a": 1, "b": 2})
    assert (status, body["number"], body["secret"]) == (201, 1, "whsec_x")
    assert "Idempotency-Replayed" not in headers
    for _ in range(2):
        status, again, headers = await shop.ask(given={"b": 2, "a": 1})
        assert status == 201
        assert again == body | {"secret": None, "a": {"b": None, "c": 1}}
        assert headers["Idempotency-Replayed"] == "true"
        assert headers["Location"] == "/v1/things/1"
        assert headers["Content-Type"] == "application/json"
        assert "RateLimit-Remaining" in headers
        assert "X-Other" not in headers
    assert shop.done == 1


async def test_secrets_are_not_kept(shop: Shop, tmp_path: Path) -> None:
    await shop.ask("a-key-that-is-hidden")
    await shop.database.close()
    written = [await path.read_bytes() for path in await trio.Path(tmp_path).iterdir()]
    assert written
    for secret in (b"whsec_x", b"lk_x", b"a-key-that-is-hidden"):
        assert not any(secret in content for content in written)


async def test_other_input_is_refused(shop: Shop) -> None:
    await shop.ask()
    status, body, _ = await shop.ask(given={"a": 2})
    assert (status, body["error"]["code"]) == (422, "idempotency_mismatch")
    assert (await shop.ask("key-2", {"a": 2}))[0] == 201


async def test_a_key_counts_for_one_tenant_and_path(shop: Shop) -> None:
    await shop.ask()
    other = shop.house.keys.add("other")
    assert (await shop.ask(credential=other))[1]["number"] == 2
    assert (await shop.ask(path="/v1/things/a"))[1]["number"] == 3
    assert (await shop.ask(path="/v1/things/b"))[0] == 422
    # all keys of a tenant are one
    assert (await shop.ask(credential=shop.house.keys.add_key()))[1]["number"] == 1


async def test_while_it_runs_the_same_is_refused(shop: Shop) -> None:
    started, go_on = trio.Event(), trio.Event()

    async def wait() -> Response:
        started.set()
        await go_on.wait()
        return await shop.make()

    shop.work = wait
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.ask)
        await started.wait()
        status, body, headers = await shop.ask()
        go_on.set()
    assert (status, body["error"]["code"]) == (409, "idempotency_in_progress")
    assert headers["Retry-After"] == "1"
    assert (await shop.ask())[2]["Idempotency-Replayed"] == "true"
    assert shop.done == 1


@pytest.mark.parametrize("status", [402, 408, 429, 500, 503])
async def test_what_may_succeed_later_runs_anew(shop: Shop, status: int) -> None:
    async def fail() -> Response:
        raise Problem(status, "later", "Not now.", headers={"Retry-After": "1"})

    shop.work = fail
    assert (await shop.ask())[0] == status
    shop.work = shop.make
    got, body, headers = await shop.ask()
    assert (got, body["number"]) == (201, 2)
    assert "Idempotency-Replayed" not in headers


async def test_a_refusal_is_an_answer(shop: Shop) -> None:
    async def refuse() -> Response:
        raise Problem.wrong_field("a", "is wrong")

    shop.work = refuse
    first = await shop.ask()
    headers = {"Idempotency-Key": "key-1", "Authorization": f"Bearer {shop.key}"}
    again = await shop.house.client.post("/v1/things", json={"a": 1}, headers=headers)
    assert (first[0], again.status_code, shop.done) == (422, 422, 1)
    assert await again.get_json() == first[1]
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_a_bug_is_not_kept(shop: Shop) -> None:
    async def crash() -> Response:
        raise KeyError("bug")

    shop.work = crash
    assert (await shop.ask())[0] == 500
    shop.work = shop.make
    assert (await shop.ask())[0] == 201


async def test_a_caller_that_left_may_come_again(shop: Shop) -> None:
    started = trio.Event()

    async def wait() -> Response:
        started.set()
        await trio.sleep_forever()
        raise AssertionError

    shop.work = wait
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.ask)
        await started.wait()
        nursery.cancel_scope.cancel()
    shop.work = shop.make
    assert (await shop.ask())[1]["number"] == 2


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "schlüssel"])
async def test_what_is_no_key(shop: Shop, key: str) -> None:
    status, body, _ = await shop.ask(key)
    assert (status, body["error"]["code"]) == (400, "invalid_idempotency_key")
    assert shop.done == 0


async def test_old_answers_are_deleted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    times = []

    async def forget(now: float) -> None:
        times.append(now)

    monkeypatch.setattr(shop.once._records, "forget", forget)
    for key in ("a", "b"):
        await shop.ask(key)
    assert times == []
    shop.house.now += FORGET_EVERY_S
    for key in ("c", "d"):
        await shop.ask(key)
    assert times == [EPOCH + shop.house.now]


async def test_a_store_that_is_away(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise StoreError("The store is away; bring it back.")

    with monkeypatch.context() as patch:
        patch.setattr(shop.once._records, "begin", away)
        status, body, _ = await shop.ask()
        assert (status, body["error"]["code"]) == (503, "store_unavailable")
        assert (await shop.ask(None))[0] == 201
    monkeypatch.setattr(shop.once._records, "keep", away)
    assert (await shop.ask("key-3"))[0] == 201
