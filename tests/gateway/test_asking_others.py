"""While other instances are asked for limits anything may happen; what was taken always comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from apps import Stage, stage
from house import AWAY, House
from trio.testing import MockClock, wait_all_tasks_blocked

from linguad.core.limits import Standing, Verdict, Wish
from linguad.core.tenant import Caller
from linguad.web.problems import Problem

GOES = Standing(limit=9, remaining=5, full_in_s=3.0)
WAITS = Standing(limit=9, remaining=0, full_in_s=30.0, wait_s=12.5)


class Others:
    """Other instances, which answer when the test lets them."""

    def __init__(self) -> None:
        self.asked: list[Wish] = []
        self.told: list[str] = []
        self.standing = GOES
        self.session = True
        self.elsewhere = 0
        self.away = False
        self.answer = trio.Event()
        self.answer.set()

    async def ask(self, wish: Wish) -> Verdict | None:
        self.asked.append(wish)
        await self.answer.wait()
        if self.away:
            return None
        return Verdict(standing=self.standing, session=self.session, sessions_elsewhere=self.elsewhere)

    def changed(self, tenant: str) -> None:
        self.told.append(tenant)


class Door:
    """A house with others, and somebody who wants to come in."""

    def __init__(self, tenant: dict[str, object] | None = None, **settings: object) -> None:
        self.house = House(**settings)
        self.others = Others()
        self.house.admission.share(self.others)
        key = self.house.keys.add(**(tenant or {}))
        self.who: Caller = self.house.admission.identify(key, AWAY)

    async def refused(self, *, opens: bool = False) -> Problem:
        with pytest.raises(Problem) as caught:
            await self.house.admission.admit(self.who, opens=opens)
        return caught.value


class TestAdmission:
    async def test_one_question_for_request_and_session(self) -> None:
        door = Door({"max_requests_per_second": 7.0, "max_concurrent_sessions": 3})
        headers, slot = await door.house.admission.admit(door.who, opens=True)
        assert headers == {"RateLimit-Limit": "9", "RateLimit-Remaining": "5", "RateLimit-Reset": "3"}
        assert door.others.asked == [
            Wish(tenant="acme", burst=7, per_second=7.0, sessions=1, most_sessions=3)
        ]
        assert slot is not None
        slot.release()
        slot.release()
        assert door.others.told == ["acme"]

    async def test_who_is_over_the_limit_here_asks_nobody(self) -> None:
        door = Door({"max_requests_per_second": 1.0})
        await door.house.admission.admit(door.who)
        assert (await door.refused()).status == 429
        assert len(door.others.asked) == 1

    async def test_others_have_used_the_rate_up(self) -> None:
        door = Door({"max_requests_per_second": 1.0})
        door.others.standing = WAITS
        for _ in range(3):
            problem = await door.refused(opens=True)
            assert (problem.code, problem.headers["Retry-After"]) == ("rate_limited", "13")
        assert door.house.admission.sessions_of("acme") == 0
        door.others.standing = GOES
        await door.house.admission.admit(door.who)

    async def test_others_have_used_the_sessions_up(self) -> None:
        door = Door({"max_concurrent_sessions": 3})
        door.others.session, door.others.elsewhere = False, 3
        _, slot = await door.house.admission.admit(door.who, opens=True)
        assert slot is None
        with pytest.raises(Problem) as caught:
            door.house.admission.begin(door.who, slot)
        assert caught.value.code == "too_many_sessions"
        with pytest.raises(Problem) as caught:
            await door.house.admission.session(door.who)
        assert caught.value.code == "too_many_sessions"
        assert door.house.admission.sessions_of("acme") == 3, "those elsewhere"
        door.others.session, door.others.elsewhere = True, 0
        (await door.house.admission.session(door.who)).release()
        assert door.house.admission.sessions_of("acme") == 0

    async def test_nobody_answers(self) -> None:
        door = Door({"max_concurrent_sessions": 1})
        door.others.away = True
        headers, slot = await door.house.admission.admit(door.who, opens=True)
        assert headers["RateLimit-Limit"] == "100"
        assert slot is not None
        with pytest.raises(Problem):
            await door.house.admission.session(door.who)

    async def test_nobody_answers_and_that_is_not_enough(self) -> None:
        door = Door(limits_fail_mode="closed")
        door.others.away = True
        problem = await door.refused(opens=True)
        assert (problem.status, problem.code, problem.retryable) == (503, "limits_unavailable", True)
        assert int(problem.headers["Retry-After"]) >= 1
        assert door.house.admission.sessions_of("acme") == 0

    async def test_the_client_goes_while_they_are_asked(self, autojump_clock: MockClock) -> None:
        door = Door()
        door.others.answer = trio.Event()
        for ask in (
            lambda: door.house.admission.admit(door.who, opens=True),
            lambda: door.house.admission.session(door.who),
        ):
            with trio.move_on_after(1) as scope:
                await ask()
            assert scope.cancelled_caught
        assert door.house.admission.sessions_of("acme") == 0
        assert door.others.told == ["acme", "acme"]


@asynccontextmanager
async def asking(others: Others) -> AsyncIterator[Stage]:
    async with stage() as it:
        it.admission.share(others)
        yield it


class TestStreams:
    async def test_what_is_said_meanwhile_waits(self, autojump_clock: MockClock) -> None:
        others = Others()
        async with asking(others) as it:
            app = await it.app()
            others.answer = trio.Event()
            await app.say({"type": "start", "src_lang": "en", "tgt_lang": "es"})
            await app.audio()
            await wait_all_tasks_blocked()
            assert len(others.asked) == 2
            others.answer.set()
            await app.until("started")
            await app.say({"type": "ping", "id": "after"})
            await app.until("pong")
            assert it.slots == 1

    async def test_the_app_goes_meanwhile(self, autojump_clock: MockClock) -> None:
        others = Others()
        async with asking(others) as it:
            app = await it.app()
            others.answer = trio.Event()
            await app.say({"type": "start", "src_lang": "en", "tgt_lang": "es"})
            await wait_all_tasks_blocked()
            await app.leave()
            others.answer.set()
            await trio.sleep(60)
            assert it.slots == 0
            assert len(it.streams) == 0

    @pytest.mark.parametrize("stop", ["stop", "abandon"])
    async def test_the_server_stops_meanwhile(self, autojump_clock: MockClock, stop: str) -> None:
        others = Others()
        async with asking(others) as it:
            known, stranger = await it.app(), await it.app(key=None, protocols=("lingua.v1",))
            others.answer = trio.Event()
            await known.say({"type": "start", "src_lang": "en", "tgt_lang": "es"})
            await stranger.say({"type": "auth", "token": it.key})
            await wait_all_tasks_blocked()
            getattr(it.streams, stop)()
            others.answer.set()
            for app in (known, stranger):
                assert (await app.closed())[0] == 1001
            assert it.slots == 0
            assert len(it.streams) == 0

    async def test_the_key_ends_meanwhile(self, autojump_clock: MockClock) -> None:
        others = Others()
        async with asking(others) as it:
            app = await it.app()
            others.answer = trio.Event()
            await app.say({"type": "start", "src_lang": "en", "tgt_lang": "es"})
            await wait_all_tasks_blocked()
            it.keys.change_key(it.key, revoked_at=0.0)
            await trio.sleep(10)
            others.answer.set()
            assert (await app.closed())[0] == 4401
            assert it.slots == 0

    async def test_others_have_used_everything_up(self, autojump_clock: MockClock) -> None:
        others = Others()
        async with asking(others) as it:
            app = await it.app()
            others.session = False
            await app.say({"type": "start", "src_lang": "en", "tgt_lang": "es"})
            assert (await app.until("error"))["code"] == "too_many_sessions"
            others.session = True
            await app.start()
            others.standing = WAITS
            stranger = await it.app(key=None, protocols=("lingua.v1",))
            await stranger.say({"type": "auth", "token": it.key})
            assert (await stranger.until("error"))["code"] == "rate_limited"
            status, error, told = await it.refused(f"Authorization: Bearer {it.key}")
            assert (status, error["code"], told["retry-after"]) == (429, "rate_limited", "13")
