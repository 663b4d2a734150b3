"""One command on its way to Redis and back."""

from __future__ import annotations

from collections.abc import Callable

import hiredis
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task

from linguad.net.redis.errors import AWAY_CODES, RedisAway, RedisError, RedisRefusal


class Call:
    """Mutable state: the answer, once it is there, and the task that waits for it, if one does."""

    __slots__ = (
        "_on_settled",
        "answer",
        "began_at",
        "confirms",
        "deadline",
        "kind",
        "name",
        "number",
        "op",
        "task",
    )

    def __init__(
        self,
        name: str,
        op: str,
        confirms: int,
        number: int,
        began_at: float,
        seconds: float,
        on_settled: Callable[[Call], object],
    ) -> None:
        """`name` is the command, `op` what metrics call it, `confirms` as in `replies.Pending`."""
        self.name = name
        self.op = op
        self.confirms = confirms
        self.kind = name.lower().encode() if confirms else b""
        self.number = number
        self.began_at = began_at
        self.deadline = began_at + seconds
        self.answer: object = self
        """The reply, a hiredis.ReplyError or a RedisError; the call itself as long as there is none."""
        self.task: Task | None = None
        self._on_settled = on_settled

    def settle(self, reply: object) -> None:
        """Take the answer and wake who waits for it."""
        self.answer = reply
        self._on_settled(self)
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task)

    async def reply(self) -> object:
        """Wait for the reply. Raises RedisAway or RedisRefusal."""
        if self.answer is self:
            self.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        answer = self.answer
        if isinstance(answer, hiredis.ReplyError):
            raise _as_error(self.name, str(answer))
        if isinstance(answer, RedisError):
            raise answer
        return answer

    @property
    def late(self) -> str:
        """What to say when its time is over."""
        return f"it did not answer {self.name} within {self.deadline - self.began_at:.3g} s"

    def _abort(self, _raise_cancel: RaiseCancelT) -> Abort:
        # The reply will come all the same and is thrown away then; the order of replies must not change.
        self.task = None
        return Abort.SUCCEEDED


def _as_error(command: str, said: str) -> RedisError:
    refusal = RedisRefusal(command, said)
    if refusal.code in AWAY_CODES:
        return RedisAway(f"Redis can do nothing now ({refusal.code})", sent=False)
    return refusal
