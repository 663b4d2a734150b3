"""Settings of tracing."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from linguad.config.base import Table


class Tracing(Table, frozen=True, kw_only=True):
    """Whether utterances are sent to an OpenTelemetry collector; docs/tracing.md shows what it gets."""

    enabled: Annotated[
        bool,
        Meta(
            description="Whether each utterance becomes a trace with a span for each of its stages. Off, as "
            "it needs a collector and the extra packages of `pip install linguad[tracing]`."
        ),
    ] = False
    endpoint: Annotated[
        str,
        Meta(
            description="Where spans go by OTLP over HTTP, with the path. The usual address of a collector "
            "on this machine. Headers, such as a key, come from OTEL_EXPORTER_OTLP_HEADERS in the "
            "environment."
        ),
    ] = "http://127.0.0.1:4318/v1/traces"
    sample_ratio: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of traces that is sent, chosen by trace id, so that a conversation is traced "
            "as a whole or not at all. 1 for all; about 0.01 will do where thousands speak.",
        ),
    ] = 1.0
