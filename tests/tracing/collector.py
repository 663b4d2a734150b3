"""A collector of OpenTelemetry: takes spans over HTTP, as real ones do, and keeps them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span
from patience import PATIENCE_S

Value = str | int | bool


class Collector:
    """What came so far."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[ResourceSpans] = []
        self.bodies: list[bytes] = []
        self.port = 0
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        """Where spans go."""
        return f"http://127.0.0.1:{self.port}/v1/traces"

    def take(self, body: bytes) -> None:
        """A request."""
        request = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            self.bodies.append(body)
            for of_resource in request.resource_spans:
                self.resources.append(of_resource)
                for of_scope in of_resource.scope_spans:
                    self.spans += of_scope.spans
            self._changed.notify_all()

    def utterances(self, count: int) -> list[Span]:
        """The spans of so many utterances at least, waiting for them."""
        end = time.monotonic() + PATIENCE_S
        with self._changed:
            while True:
                found = [span for span in self.spans if span.name == "utterance"]
                if len(found) >= count:
                    return found
                assert self._changed.wait(end - time.monotonic()), f"only {len(found)} came"

    def below(self, parent: Span) -> dict[str, Span]:
        """The spans below one, by name."""
        return {span.name: span for span in self.spans if span.parent_span_id == parent.span_id}


def attributes(span: Span | ResourceSpans) -> dict[str, Value]:
    """Those of a span, or of the resource it is of."""
    held = span.attributes if isinstance(span, Span) else span.resource.attributes
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in held}


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector on a free port, or on this one."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            good = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if good:
                collector.take(body)
            self.send_response(200 if good else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    collector.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
