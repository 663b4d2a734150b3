"""The HTTP client against real servers on loopback: TLS, limits, bodies in parts, servers that misbehave."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import h11
import pytest
import trio
from patience import PATIENCE_S
from tls_server import Certificate, Exchange, Seen, make_certificate, web_server
from trio.testing import MockClock

from linguad.net.guard import AddressRefused, Guard
from linguad.net.http_client import HttpError, Limits, Url, parse, request

HERE = Guard(["127.0.0.0/8"])


@pytest.fixture(autouse=True)
async def patience() -> AsyncIterator[None]:
    with trio.fail_after(PATIENCE_S):
        yield


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


class Book:
    """Serves one answer and keeps what was asked."""

    def __init__(self, status: int = 200, body: bytes = b"fine", headers: Any = ()) -> None:
        self.seen: list[Seen] = []
        self._answer = (status, body, headers)

    async def serve(self, exchange: Exchange) -> None:
        self.seen.append(exchange.seen)
        await exchange.answer(*self._answer)


async def test_a_request_over_tls(certificate: Certificate) -> None:
    book = Book(headers=[("X-A", "1"), ("x-a", "2")])
    async with web_server(book.serve, certificate.server) as port:
        url = f"https://localhost:{port}/path?a=1"
        async with request(
            "POST", url, body=b"hello", headers={"X-B": "3"}, guard=HERE, tls=certificate.client
        ) as answer:
            assert (answer.status, answer.headers["x-a"]) == (200, "1, 2")
            assert await answer.read() == b"fine"
    (seen,) = book.seen
    assert (seen.method, seen.target, seen.body) == ("POST", "/path?a=1", b"hello")
    assert seen.headers["host"] == f"localhost:{port}"
    assert seen.headers["x-b"] == "3"
    assert seen.headers["content-length"] == "5"
    assert seen.headers["connection"] == "close"
    assert seen.headers["user-agent"].startswith("linguad/")


async def test_the_certificate_must_be_for_the_name_and_from_an_authority(certificate: Certificate) -> None:
    book = Book()
    async with web_server(book.serve, certificate.server) as port:
        with pytest.raises(HttpError, match=r"certificate of .* is not accepted") as caught:
            async with request("GET", f"https://127.0.0.1:{port}/", tls=certificate.client):
                pass
        assert caught.value.kind == "tls"
        with pytest.raises(HttpError, match="is not accepted: self-signed"):
            async with request("GET", f"https://localhost:{port}/", guard=HERE):
                pass
    assert book.seen == []


async def test_a_server_without_tls() -> None:
    async with web_server(Book().serve) as port:
        with pytest.raises(HttpError, match="no TLS with https://localhost"):
            async with request("GET", f"https://localhost:{port}/", guard=HERE):
                pass


async def test_private_addresses_are_refused_before_anything_is_sent() -> None:
    book = Book()
    async with web_server(book.serve) as port:
        with pytest.raises(AddressRefused, match="may not be called"):
            async with request("GET", f"http://localhost:{port}/", guard=Guard()):
                pass
        with pytest.raises(AddressRefused, match="may not be called"):
            async with request("GET", f"http://[::ffff:127.0.0.1]:{port}/", guard=Guard()):
                pass
    assert book.seen == []


class Rebinding(trio.abc.HostnameResolver):
    """A name that means another address each time it is asked for."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)

    async def getaddrinfo(self, host: Any, port: Any, *more: Any) -> Any:
        return [(2, 1, 6, "", (self._addresses.pop(0), port))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise AssertionError


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """The name leads to an allowed address when it is checked, and to loopback whenever it is asked again."""
    trio.socket.set_custom_hostname_resolver(Rebinding("127.0.0.2", "127.0.0.1", "127.0.0.1"))
    checked, forbidden = Book(), Book()
    async with web_server(checked.serve, host="127.0.0.2") as port:
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        async with trio.open_nursery() as nursery, listeners[0]:
            async with request(
                "GET", f"http://rebinding.example:{port}/", guard=Guard(["127.0.0.2"])
            ) as answer:
                assert answer.status == 200
            nursery.cancel_scope.cancel()
        with pytest.raises(AddressRefused):
            async with request("GET", f"http://rebinding.example:{port}/", guard=Guard(["127.0.0.2"])):
                pass
    assert checked.seen[0].headers["host"] == f"rebinding.example:{port}"
    assert forbidden.seen == []


async def test_redirects_are_answers_and_not_followed() -> None:
    book = Book(302, b"", [("location", "/elsewhere")])
    async with web_server(book.serve) as port, request("GET", f"http://127.0.0.1:{port}/") as answer:
        assert (answer.status, answer.headers["location"]) == (302, "/elsewhere")
        assert await answer.read() == b""
    assert len(book.seen) == 1


async def test_what_is_before_the_answer_does_not_count() -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send(h11.InformationalResponse(status_code=103, headers=[("link", "x")]))
        await exchange.answer(204)

    async with web_server(serve) as port, request("GET", f"http://127.0.0.1:{port}") as answer:
        assert answer.status == 204


async def test_bodies_go_up_in_parts() -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(100_000)

    book = Book()
    async with web_server(book.serve) as port:
        for length in (None, 4_000_000):
            async with request("PUT", f"http://127.0.0.1:{port}/", body=parts(), body_bytes=length) as answer:
                assert answer.status == 200
    chunked, counted = book.seen
    assert len(chunked.body) == len(counted.body) == 4_000_000
    assert chunked.headers["transfer-encoding"] == "chunked"
    assert counted.headers["content-length"] == "4000000"


async def test_a_body_shorter_than_was_told() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"short"

    async with web_server(Book().serve) as port:
        with pytest.raises(HttpError, match="cannot be sent"):
            async with request("PUT", f"http://127.0.0.1:{port}/", body=parts(), body_bytes=10):
                pass


async def test_an_answer_before_the_body_is_sent_counts() -> None:
    """A server that refuses an upload and closes: its answer is more useful than "broken pipe"."""
    answered = trio.Event()

    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await stream.send_eof()
        answered.set()
        await trio.sleep_forever()

    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        await answered.wait()
        yield b"second"

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, talk, listeners)
        port = listeners[0].socket.getsockname()[1]
        async with request("POST", f"http://127.0.0.1:{port}/", body=parts()) as answer:
            assert answer.status == 413
        nursery.cancel_scope.cancel()


async def test_bodies_come_down_in_parts_and_can_be_left() -> None:
    book = Book(206, bytes(3_000_000), [("content-range", "bytes 0-2999999/9000000")])
    async with web_server(book.serve) as port:
        url = f"http://127.0.0.1:{port}/big"
        async with request("GET", url, headers={"Range": "bytes=0-2999999"}) as answer:
            assert answer.status == 206
            assert sum([len(part) async for part in answer]) == 3_000_000
        async with request("GET", url) as answer:
            async for part in answer:
                assert part
                break
        async with request("GET", url) as answer:
            assert await answer.start(1024) == bytes(1024)
        async with request("HEAD", url) as answer:
            assert answer.headers["content-length"] == "3000000"
            assert await answer.read() == b""
    assert book.seen[0].headers["range"] == "bytes=0-2999999"


async def test_a_body_that_is_too_long() -> None:
    async with web_server(Book(body=bytes(1025)).serve) as port:
        async with request("GET", f"http://127.0.0.1:{port}/", limits=Limits(body_bytes=1025)) as answer:
            assert len(await answer.read()) == 1025
        with pytest.raises(HttpError, match="more than the 1024 bytes") as caught:
            async with request("GET", f"http://127.0.0.1:{port}/", limits=Limits(body_bytes=1024)) as answer:
                await answer.read()
        assert caught.value.kind == "too_big"


async def test_compressed_answers_are_not_asked_for_and_not_unpacked() -> None:
    """A bomb of a few bytes stays a few bytes."""
    packed = gzip.compress(bytes(1_000_000))
    book = Book(body=packed, headers=[("content-encoding", "gzip")])
    async with web_server(book.serve) as port, request("GET", f"http://127.0.0.1:{port}/") as answer:
        assert await answer.read() == packed
    assert book.seen[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"SSH-2.0-hello\r\n\r\n", "does not speak HTTP"),
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal", "does not speak HTTP|broke the connection off"),
        (b"HTTP/1.1 200 OK\r\nx: " + bytes(100_000), "does not speak HTTP"),
    ],
)
async def test_servers_that_talk_nonsense(sent: bytes, text: str) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(sent)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, talk, listeners)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(HttpError, match=text) as caught:
            async with request("GET", f"http://127.0.0.1:{port}/") as answer:
                await answer.read()
        assert caught.value.kind == "protocol"
        nursery.cancel_scope.cancel()


async def test_nobody_listens() -> None:
    async with web_server(Book().serve) as port:
        pass
    with pytest.raises(HttpError, match=r"cannot connect to http://127.0.0.1.*refused") as caught:
        async with request("GET", f"http://127.0.0.1:{port}/"):
            pass
    assert caught.value.kind == "connect"


async def test_the_next_address_is_tried() -> None:
    class Two(trio.abc.HostnameResolver):
        async def getaddrinfo(self, host: Any, port: Any, *more: Any) -> Any:
            return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")]

        async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
            raise AssertionError

    trio.socket.set_custom_hostname_resolver(Two())
    async with web_server(Book().serve) as port, request("GET", f"http://two.example:{port}/") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("limits", "seconds", "text"),
    [
        (Limits(headers_seconds=7), 7, "did not answer within 7 s"),
        (Limits(whole_seconds=10), 10, "did not answer within 10 s"),
    ],
)
async def test_a_server_that_says_nothing(
    mock_clock: MockClock, limits: Limits, seconds: float, text: str
) -> None:
    async def serve(exchange: Exchange) -> None:
        mock_clock.jump(seconds)
        await trio.sleep_forever()

    async with web_server(serve) as port:
        with pytest.raises(HttpError, match=text) as caught:
            async with request("GET", f"http://127.0.0.1:{port}/", limits=limits):
                pass
    assert caught.value.kind == "timeout"


async def test_a_server_that_stops_in_the_middle(mock_clock: MockClock) -> None:
    async def serve(exchange: Exchange) -> None:
        await exchange.send(
            h11.Response(status_code=200, headers=[("content-length", "100")]), h11.Data(data=b"begun")
        )
        await trio.sleep_forever()

    async with web_server(serve) as port:
        url, limits = f"http://127.0.0.1:{port}/", Limits(idle_seconds=20)
        async with request("GET", url, limits=limits) as answer, trio.open_nursery() as nursery:
            assert await answer.__anext__() == b"begun"
            nursery.start_soon(_jump_when_blocked, mock_clock, 20)
            with pytest.raises(HttpError, match="did not send the rest of its answer within 20 s"):
                await answer.__anext__()


async def _jump_when_blocked(clock: MockClock, seconds: float) -> None:
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(seconds)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://host/", "not one like"),
        ("host/path", "not one like"),
        ("https://host:port/", "not one like"),
        ("https://[::1/", "not one like"),
        ("https:///path", "names no host"),
        ("https://user:pw@host/", "user or password"),
        ("https://host/a b", "percent-encode"),
        ("https://host/a\r\nX-Evil: 1", "percent-encode"),
        ("https://höst/", "percent-encode"),
    ],
)
async def test_urls_that_are_refused(url: str, text: str) -> None:
    with pytest.raises(HttpError, match=text) as caught:
        parse(url)
    assert caught.value.kind == "url"


async def test_parts_of_a_url() -> None:
    assert parse("https://Host:8443/a?b=c#d") == Url(True, "host", 8443, "Host:8443", "/a?b=c")
    assert parse("http://[::1]") == Url(False, "::1", 80, "[::1]", "/")
    assert parse("https://host/secret?key=1").site == "https://host"


@pytest.mark.parametrize("value", ["a\r\nb: c", "žluť"])
async def test_headers_that_would_break_the_request(value: str) -> None:
    async with web_server(Book().serve) as port:
        with pytest.raises(HttpError, match="cannot be sent"):
            async with request("GET", f"http://127.0.0.1:{port}/", headers={"x": value}):
                pass
