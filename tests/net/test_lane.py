"""What a client sends, in any pieces, beside what wsproto alone makes of it."""

from __future__ import annotations

import socket

import trio
from hypothesis import example, given
from hypothesis import strategies as st
from patience import PATIENCE_S
from trio.testing import memory_stream_pair, wait_all_tasks_blocked
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from linguad.net.frames import Other, framed, take, take_control
from linguad.net.peer import Peer
from linguad.net.websocket import Link, LinkSettings, end_step, serve_link

LONGEST = 70_000
SETTINGS = LinkSettings(max_message_bytes=LONGEST)
LENGTHS = st.sampled_from([0, 1, 3, 4, 5, 125, 126, 127, 1000, 0xFFFF, 0x10000, LONGEST])
TEXTS = st.text(max_size=200) | st.builds(lambda size: "x" * size, LENGTHS)
DATA = TEXTS | st.builds(bytes, LENGTHS) | st.binary(max_size=200)


def client_frame(event: Event) -> bytes:
    return bytes(Connection(ConnectionType.CLIENT).send(event))


def whole(data: str | bytes) -> Message:
    return TextMessage(data) if isinstance(data, str) else BytesMessage(data)


@given(DATA)
def test_our_frame_is_that_of_the_library(data: str | bytes) -> None:
    assert framed(data) == Connection(ConnectionType.SERVER).send(whole(data))


@given(DATA)
def test_message_is_taken_when_it_is_whole_and_no_byte_more(data: str | bytes) -> None:
    frame = client_frame(whole(data))
    for size in {0, 1, 2, 3, 5, 6, 9, 13, len(frame) - 1} & set(range(len(frame))):
        part = bytearray(frame[:size])
        assert take(part, LONGEST) is Other.PART
        assert part == frame[:size]
    buffer = bytearray(frame + b"next")
    assert take(buffer, LONGEST) == data
    assert buffer == b"next"


@given(st.binary(max_size=300))
@example(b"\x81\x80\0\0\0\0")
@example(b"\x81\x00")
@example(b"\x81\xfe\x00\x7d" + bytes(4 + 125))
@example(b"\x81\x81\0\0\0\0\xff")
@example(b"\x89\xfe\x00\x7e" + bytes(4 + 126))
def test_what_is_no_plain_message_stays(junk: bytes) -> None:
    """What is taken, the library takes too; of what is left nothing is lost."""
    buffer = bytearray(junk)
    found = take(buffer, LONGEST)
    library = Connection(ConnectionType.SERVER)
    library.receive_data(junk[: len(junk) - len(buffer)] if not isinstance(found, Other) else junk)
    events = list(library.events())
    if not isinstance(found, Other):
        assert [event.data for event in events if isinstance(event, Message)] == [found]
        return
    assert buffer == junk
    first = events[0] if events else None
    if found is Other.CONTROL:
        assert isinstance(first, Ping | Pong)
        assert client_length(take_control(buffer)) == len(junk) - len(buffer)
    elif found is Other.PART:
        assert first is None or not (isinstance(first, Message) and first.message_finished)


def client_length(frame: bytes) -> int:
    """Length of a short masked frame as its second byte tells."""
    return 6 + frame[1] - 128


Said = list[Event]
FRAGMENTS = st.builds(
    lambda texts: [TextMessage(text, message_finished=text is texts[-1]) for text in texts],
    st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=3, unique=True),
)
SAID = st.lists(
    DATA.map(lambda data: [whole(data)])
    | st.binary(max_size=20).map(lambda payload: [Ping(payload)])
    | st.just([Pong(b"unasked")])
    | FRAGMENTS,
    max_size=8,
).map(lambda groups: [event for group in groups for event in group])


async def upgraded(stream: trio.abc.Stream) -> WSConnection:
    ws = WSConnection(ConnectionType.CLIENT)
    await stream.send_all(ws.send(Request(host="localhost", target="/")))
    ws.receive_data(await stream.receive_some())
    assert [type(event) for event in ws.events()] == [AcceptConnection]
    return ws


def texts_and_bytes(said: Said) -> list[str | bytes]:
    """The messages in it, put together."""
    messages: list[str | bytes] = []
    text = ""
    for event in said:
        if isinstance(event, BytesMessage):
            messages.append(bytes(event.data))
        elif isinstance(event, TextMessage):
            text += event.data
            if event.message_finished:
                messages.append(text)
                text = ""
    return messages


@given(SAID, st.lists(st.integers(1, 3000), max_size=20), st.booleans())
def test_handler_hears_all_in_order_and_pings_are_answered(
    said: Said, pieces: list[int], polite: bool
) -> None:
    heard: list[str | bytes] = []
    pongs: list[bytes] = []
    outcomes: list[str] = []

    async def listen(link: Link) -> None:
        try:
            while True:
                heard.append(await link.receive())
        finally:
            outcomes.append(link.outcome)

    async def main() -> None:
        ours, theirs = memory_stream_pair()
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_link, "test", ours, Peer("192.0.2.1", 1), SETTINGS, listen)
                ws = await upgraded(theirs)
                sent = b"".join(ws.send(event) for event in said)
                if polite:
                    sent += ws.send(CloseConnection(1000))
                for size in pieces:
                    await theirs.send_all(sent[:size])
                    sent = sent[size:]
                await theirs.send_all(sent)
                if not polite:
                    await theirs.send_stream.aclose()
                answer = b""
                while data := await theirs.receive_some():
                    answer += data
                ws.receive_data(answer)
                pongs.extend(bytes(event.payload) for event in ws.events() if isinstance(event, Pong))

    trio.run(main)
    assert heard == texts_and_bytes(said)
    if polite:
        assert pongs == [bytes(event.payload) for event in said if isinstance(event, Ping)]
    assert outcomes == ["peer_closed" if polite else "peer_lost"]


def test_bytes_that_are_no_text_end_the_connection() -> None:
    heard: list[str | bytes] = []

    async def listen(link: Link) -> None:
        while True:
            heard.append(await link.receive())

    async def main() -> None:
        ours, theirs = memory_stream_pair()
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_link, "test", ours, Peer("192.0.2.1", 1), SETTINGS, listen)
                await upgraded(theirs)
                await theirs.send_all(client_frame(TextMessage("good")) + b"\x81\x81\0\0\0\0\xff")
                assert await theirs.receive_some() == b""

    trio.run(main)
    assert heard == ["good"]


def test_what_is_told_leaves_at_the_end_of_the_step() -> None:
    links: list[Link] = []

    async def listen(link: Link) -> None:
        links.append(link)
        await link.receive()

    async def main() -> None:
        ours, theirs = socket.socketpair()
        server, client = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in (ours, theirs))
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_link, "test", server, Peer("192.0.2.1", 1), SETTINGS, listen)
                await upgraded(client)
                await wait_all_tasks_blocked()
                links[0].send("at once")
                end_step()
                # nobody else has had a turn
                assert theirs.recv(100) == framed("at once")
                await client.aclose()

    trio.run(main)
