"""What a node's owner is told: each news once, in sentences that name the cure."""

from __future__ import annotations

from linguad.wire.node import HeartbeatAck
from linguad.worker.standing import PASSED_OVER_SECONDS, Told


def ack(status: str = "ready", **members: object) -> HeartbeatAck:
    return HeartbeatAck(node_id="node-1", status=status, **members)  # type: ignore[arg-type]


UNWELL = ack("registering", reason="no_language_pair", message="install models of one more language")


class TestStanding:
    def test_it_is_told_when_it_changes_and_only_then(self) -> None:
        told = Told()
        assert told.standing(UNWELL) == (
            "this node gets no work (registering): install models of one more language"
        )
        assert told.standing(UNWELL) is None
        assert told.standing(ack()) == "the server says that this node is ready"
        assert told.standing(ack()) is None
        assert told.standing(ack("ready", reason="no_running_service")) == (
            "this node gets no work (ready): no_running_service"
        )
        assert told.standing(ack("degraded")) == "the server says that this node is degraded"

    def test_another_sentence_for_the_same_reason_is_no_news(self) -> None:
        told = Told()
        told.standing(ack("degraded", reason="degraded", message="work again in 20 s"))
        assert told.standing(ack("degraded", reason="degraded", message="work again in 5 s")) is None

    def test_after_a_new_connection_it_is_told_again(self) -> None:
        told = Told()
        told.standing(ack())
        told.disconnected()
        assert told.standing(ack()) is not None


class TestPassedOver:
    def test_every_reason_is_named_the_most_frequent_first(self) -> None:
        counts = {"capacity_exceeded": 1, "lang_pair_unsupported": 4, "a_new_one": 2}
        assert Told().passed_over(ack(no_work=counts), 0.0) == (
            "jobs that found no node at all passed this one over 7 x: "
            "4 x because it does not translate between their languages, 2 x because a_new_one, "
            "1 x because all its slots were taken"
        )

    def test_nothing_is_told_of_nothing(self) -> None:
        told = Told()
        assert told.passed_over(ack(), 0.0) is None
        assert told.passed_over(ack(no_work={}), 1.0) is None

    def test_what_comes_soon_after_is_told_later_and_together(self) -> None:
        told = Told()
        assert told.passed_over(ack(no_work={"offline": 1}), 0.0) is not None
        assert told.passed_over(ack(no_work={"offline": 2}), 15.0) is None
        assert told.passed_over(ack(no_work={"offline": 5}), PASSED_OVER_SECONDS - 1) is None
        later = told.passed_over(ack(no_work={"offline": 5}), PASSED_OVER_SECONDS)
        assert later == (
            "jobs that found no node at all passed this one over 4 x: 4 x because it was not connected"
        )
        assert told.passed_over(ack(no_work={"offline": 5}), 10 * PASSED_OVER_SECONDS) is None

    def test_a_server_that_counts_anew_is_followed(self) -> None:
        told = Told()
        told.passed_over(ack(no_work={"offline": 50}), 0.0)
        assert told.passed_over(ack(no_work={"offline": 2}), 2000.0) is None
        assert "over 3 x" in (told.passed_over(ack(no_work={"offline": 5}), 4000.0) or "")
