"""Requests that are sent again, on both databases: one runs, the others learn what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import Connection, func, select

from linguad.core.idempotency import Answer, Asked, Standing, fingerprint, is_kept, may_be_key
from linguad.store.database import Database
from linguad.store.idempotency import IdempotencyRecords, idempotency

RUNNING_S, KEPT_S = 600.0, 86400.0
ASKED = Asked(tenant_id="acme", route="POST /v1/jobs", key="k" * 64, fingerprint="f" * 64)
ANSWER = Answer(status=201, content_type="application/json", body=b'{"a": 1}', headers={"Location": "/x"})


class Office:
    """Records, and the time."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.records = IdempotencyRecords(database)
        self.now = 0.0

    async def begin(self, attempt: str, asked: Asked = ASKED) -> Answer | Standing:
        until = self.now + RUNNING_S
        return await self.records.begin(asked, attempt, self.now, until, self.now + KEPT_S)

    async def keep(self, attempt: str, answer: Answer = ANSWER, asked: Asked = ASKED) -> None:
        await self.records.keep(asked, attempt, answer, self.now + KEPT_S)

    async def count(self) -> int:
        def work(connection: Connection) -> int:
            return connection.execute(select(func.count()).select_from(idempotency)).scalar_one()

        return await self.database.read(work)


@pytest.fixture
async def office(database: Database) -> Office:
    return Office(database)


async def test_first_runs_second_waits_third_gets_the_answer(office: Office) -> None:
    assert await office.begin("one") is Standing.NEW
    assert await office.begin("two") is Standing.RUNNING
    await office.keep("one")
    assert await office.begin("three") == ANSWER
    assert await office.begin("four", replace(ASKED, fingerprint="x")) is Standing.OTHER_INPUT


async def test_other_input_is_told_while_it_runs(office: Office) -> None:
    assert await office.begin("one") is Standing.NEW
    assert await office.begin("two", replace(ASKED, fingerprint="x")) is Standing.OTHER_INPUT


@pytest.mark.parametrize("other", [{"tenant_id": "b"}, {"route": "POST /v1/x"}, {"key": "x"}])
async def test_a_key_counts_for_one_tenant_and_route(office: Office, other: dict[str, str]) -> None:
    assert await office.begin("one") is Standing.NEW
    assert await office.begin("two", replace(ASKED, **other)) is Standing.NEW


async def test_what_came_to_nothing_runs_anew(office: Office) -> None:
    await office.begin("one")
    await office.records.drop(ASKED, "one")
    assert await office.begin("two", replace(ASKED, fingerprint="x")) is Standing.NEW


async def test_what_was_lost_is_taken_over_and_says_no_more(office: Office) -> None:
    await office.begin("one")
    office.now += RUNNING_S
    assert await office.begin("two") is Standing.NEW
    await office.keep("one")
    await office.records.drop(ASKED, "one")
    assert await office.begin("three") is Standing.RUNNING
    await office.keep("two")
    assert await office.begin("four") == ANSWER


async def test_answers_are_forgotten_after_a_day(office: Office) -> None:
    await office.begin("one")
    await office.keep("one")
    office.now += KEPT_S - 1
    assert await office.begin("two") == ANSWER
    office.now += 1
    assert await office.begin("three") is Standing.NEW
    await office.records.forget(office.now)
    assert await office.count() == 1
    await office.records.forget(office.now + KEPT_S)
    assert await office.count() == 0


@pytest.mark.parametrize("body", [b"", b"\x00\xff" * 100, b"speech" * 1_000_000])
async def test_bodies_come_back_as_they_were(office: Office, body: bytes) -> None:
    await office.begin("one")
    await office.keep("one", replace(ANSWER, body=body))
    known = await office.begin("two")
    assert isinstance(known, Answer)
    assert known.body == body


@pytest.fixture
async def offices(url: str) -> AsyncIterator[list[Office]]:
    """Two processes with a common database."""
    databases = [Database(url), Database(url)]
    for one in databases:
        await one.open()
    yield [Office(one) for one in databases]
    for one in databases:
        await one.close()


async def test_of_many_at_once_one_runs(offices: list[Office]) -> None:
    told: list[Answer | Standing] = []

    async def ask(office: Office, attempt: str) -> None:
        told.append(await office.begin(attempt))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, offices[number % 2], str(number))
    assert sorted(told) == [Standing.NEW] + [Standing.RUNNING] * 19


STEPS = st.tuples(
    st.sampled_from(["begin", "keep", "drop", "wait"]), st.integers(0, 1), st.sampled_from(["f", "g"])
)


async def play(url: str, steps: list[tuple[str, int, str]]) -> None:
    database = Database(url)
    await database.open()
    office = Office(database)
    await office.records.forget(2 * KEPT_S)
    running: dict[int, tuple[int, str]] = {}
    kept: dict[int, str] = {}
    for number, (what, key, print_) in enumerate(steps):
        asked = replace(ASKED, key=str(key), fingerprint=print_)
        if what == "begin":
            known = await office.begin(str(number), asked)
            used_for = kept.get(key) or running.get(key, (0, ""))[1]
            if not used_for:
                assert known is Standing.NEW
                running[key] = number, print_
            elif used_for != print_:
                assert known is Standing.OTHER_INPUT
            else:
                assert known == (ANSWER if key in kept else Standing.RUNNING)
        elif what == "keep" and key in running:
            attempt, kept[key] = running.pop(key)
            await office.keep(str(attempt), ANSWER, asked)
        elif what == "drop" and key in running:
            await office.records.drop(asked, str(running.pop(key)[0]))
        elif what == "wait":
            office.now += RUNNING_S
            running.clear()
    await database.close()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=20))
def test_work_is_done_once_whatever_happens(url: str, steps: list[tuple[str, int, str]]) -> None:
    """Between two runs with the same key the first was dropped or lost."""
    trio.run(play, url, steps)


@given(
    one=st.recursive(st.none() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=5),
    other=st.text(),
)
def test_the_order_of_names_is_no_other_input(one: object, other: str) -> None:
    body = {"x": one, "y": other}
    assert fingerprint(body) == fingerprint(dict(reversed(body.items())))
    assert fingerprint(body) != fingerprint({**body, "y": other + "."})


def test_parts_do_not_run_together() -> None:
    parts = [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), ("abc",), ({"a": b"bc"},), (b"ab", b"c", b"")]
    assert len({fingerprint(*one) for one in parts}) == len(parts)


@pytest.mark.parametrize(
    ("text", "may_be"),
    [("a", True), ("!~" * 100, True), ("a" * 255, True), ("a" * 256, False), ("", False), ("a b", False)],
)
def test_keys(text: str, may_be: bool) -> None:
    assert may_be_key(text) == may_be
    assert not may_be_key(text + "é")


def test_what_is_kept() -> None:
    assert [
        status for status in (200, 201, 202, 204, 400, 402, 408, 409, 422, 429, 500, 503) if is_kept(status)
    ] == [
        *(200, 201, 202, 204, 400, 409, 422),
    ]
