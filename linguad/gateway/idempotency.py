"""`Idempotency-Key`: a request that was sent twice is done once (gateway 11.8)."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from functools import wraps
from typing import Any, ParamSpec, Protocol, cast

import trio
from quart import Response, request

from linguad import log
from linguad.core.idempotency import (
    KEPT_S,
    Answer,
    Asked,
    Standing,
    fingerprint,
    hash_of_key,
    is_kept,
    may_be_key,
)
from linguad.errors import StoreError
from linguad.gateway.access.protect import caller
from linguad.web.problems import Problem, answer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

LOST_S = 450.0
"""A request that never came to its end counts as lost so long after its answer was due."""

FORGET_EVERY_S = 600.0
"""How often old answers are deleted."""

LAST_WORD_S = 5.0
"""How long a request that is cancelled may take to note that it did not come to its end."""

KEPT_HEADERS = ("Location", "ETag")

P = ParamSpec("P")
View = Callable[P, Awaitable[Response]]
logger = log.get(__name__)


class Records(Protocol):
    """Where answers are kept, over restarts; times are Unix s. Every method raises StoreError."""

    async def begin(
        self, asked: Asked, attempt: str, now: float, running_until: float, kept_until: float
    ) -> Answer | Standing:
        """What is known of a request; if it is NEW it is noted as running, by this attempt."""
        ...

    async def keep(self, asked: Asked, attempt: str, answer: Answer, kept_until: float) -> None:
        """The attempt is done; nothing happens if another one has taken over."""
        ...

    async def drop(self, asked: Asked, attempt: str) -> None:
        """The attempt came to nothing that is kept; the next one is NEW."""
        ...

    async def forget(self, now: float) -> None:
        """Delete what is no longer kept."""
        ...


class Idempotency:
    """Mutable state: when old answers were deleted last; all else is in the records."""

    def __init__(
        self, records: Records, longest_answer_s: float = 150.0, wall: Callable[[], float] = time.time
    ) -> None:
        """`wall` gives Unix s."""
        self._records = records
        self._running_s = longest_answer_s + LOST_S
        self._wall = wall
        self._forgot_at = wall()

    async def once(
        self,
        given: object,
        work: Callable[[], Awaitable[Response]],
        *,
        secret: Collection[str] = (),
    ) -> Response:
        """The answer to the request at hand, inside a protected view: that of `work`, or of an earlier run.

        `given` is the input as plain data; for large parts give their hash. `secret` names members of a JSON
        answer, as `a.b`, that are shown once: they are not kept, and null when the answer is given again.

        Raises Problem 400 for what is no key, 409 while the same request runs, 422 if the key was used for
        another input, 503 if the records cannot be used, and what `work` raises.
        """
        key = request.headers.get(HEADER)
        if key is None:
            return await work()
        if not may_be_key(key):
            message = f"{HEADER}: give 1 to 255 visible ASCII characters, such as a UUID."
            raise Problem(400, "invalid_idempotency_key", message)
        asked = Asked(
            tenant_id=caller().tenant.id,
            # another id in the path is another request
            route=f"{request.method} {request.url_rule}",
            key=hash_of_key(key),
            fingerprint=fingerprint(request.view_args or {}, given),
        )
        attempt = secrets.token_hex(8)
        try:
            known = await self._begin(asked, attempt)
        except StoreError as error:
            logger.warning("idempotency_unavailable", reason=str(error))
            message = "What was asked before cannot be looked up; try again, or send no Idempotency-Key."
            raise Problem(503, "store_unavailable", message, headers={"Retry-After": "5"}) from error
        if isinstance(known, Answer):
            return _again(known)
        _refuse(known)
        return await self._run(asked, attempt, work, secret)

    def of_json(self, *secret: str) -> Callable[[View[P]], View[P]]:
        """Decorator of a protected view whose input is its JSON body; `secret` as of `once`."""

        def decorate(view: View[P]) -> View[P]:
            @wraps(view)
            async def guarded(*args: P.args, **kwargs: P.kwargs) -> Response:
                data = cast("bytes", await request.get_data())
                try:
                    given = json.loads(data or b"{}")
                except (ValueError, RecursionError):
                    # the view says what is wrong with it
                    given = data.decode("latin-1")
                return await self.once(given, lambda: view(*args, **kwargs), secret=secret)

            return guarded

        return decorate

    async def _begin(self, asked: Asked, attempt: str) -> Answer | Standing:
        now = self._wall()
        if now >= self._forgot_at + FORGET_EVERY_S:
            self._forgot_at = now
            await self._records.forget(now)
        return await self._records.begin(asked, attempt, now, now + self._running_s, now + KEPT_S)

    async def _run(
        self,
        asked: Asked,
        attempt: str,
        work: Callable[[], Awaitable[Response]],
        secret: Collection[str],
    ) -> Response:
        done: Answer | None = None
        try:
            try:
                response = await work()
            except Problem as problem:
                response = answer(problem)
            if is_kept(response.status_code):
                done = await _kept(response, secret)
            return response
        finally:
            # Also for a caller that has gone: the next attempt must not find this one running.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WORD_S):
                await self._note(asked, attempt, done)

    async def _note(self, asked: Asked, attempt: str, done: Answer | None) -> None:
        try:
            if done is None:
                await self._records.drop(asked, attempt)
            else:
                await self._records.keep(asked, attempt, done, self._wall() + KEPT_S)
        except StoreError as error:
            logger.warning("idempotency_unavailable", reason=str(error))


def _refuse(known: Standing) -> None:
    if known is Standing.RUNNING:
        message = "The same request is still running; its answer can be had in a while."
        raise Problem(409, "idempotency_in_progress", message, headers={"Retry-After": "1"})
    if known is Standing.OTHER_INPUT:
        message = f"This {HEADER} was used for another request; make a new one."
        raise Problem(422, "idempotency_mismatch", message)


def _again(known: Answer) -> Response:
    response = Response(known.body, known.status, dict(known.headers), content_type=known.content_type)
    response.headers[REPLAYED] = "true"
    return response


async def _kept(response: Response, secret: Collection[str]) -> Answer:
    body = await response.get_data(as_text=False)
    return Answer(
        status=response.status_code,
        content_type=response.headers.get("Content-Type", ""),
        body=_without(body, secret) if secret and response.status_code < 400 else body,
        headers={name: response.headers[name] for name in KEPT_HEADERS if name in response.headers},
    )


def _without(body: bytes, secret: Collection[str]) -> bytes:
    """A JSON object with null for members that are shown once."""
    shown: dict[str, Any] = json.loads(body)
    for path in secret:
        *way, name = path.split(".")
        inside: Any = shown
        for step in way:
            inside = inside.get(step) if isinstance(inside, dict) else None
        if isinstance(inside, dict) and name in inside:
            inside[name] = None
    return json.dumps(shown).encode()
