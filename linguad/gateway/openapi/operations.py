"""The table of what the public API can do, for its documents (gateway 2)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from linguad.core.tenant import Scope
from linguad.gateway.access.account import TicketWish
from linguad.gateway.openapi.answers import Translation
from linguad.gateway.openapi.document import FORM, JSON, TEXT, Operation, Parameter
from linguad.gateway.openapi.operations_admin import ADMIN_OPERATIONS
from linguad.gateway.openapi.operations_shared import (
    BODY,
    CURSOR,
    FIELDS,
    IDEMPOTENCY_KEY,
    IDEMPOTENT,
    LIMIT,
    LOCATION,
    REPLAYED,
    STORE,
    USAGE_QUERY,
    WEBHOOK_ID,
    in_path,
)
from linguad.gateway.openapi.pages import (
    CapacityPage,
    Check,
    DeliveryList,
    DeliveryPage,
    JobCreated,
    JobPage,
    JobRequest,
    Languages,
    Me,
    Ticket,
    UsagePage,
    WebhookChange,
    WebhookList,
    WebhookPage,
    WebhookSecret,
    WebhookWish,
)
from linguad.gateway.speech.request import TranslateRequest

UPLOAD = (
    (400, "malformed_multipart"),
    (400, "invalid_json"),
    (400, "invalid_field"),
    (400, "missing_audio"),
    (408, "request_timeout"),
    (413, "payload_too_large"),
    (413, "audio_too_long"),
    (415, "unsupported_media_type"),
    (415, "unsupported_audio_format"),
    (422, "invalid_field"),
    (422, "invalid_audio"),
    (422, "invalid_sample_rate"),
    (422, "unsupported_language"),
    (422, "unsupported_feature"),
)
"""Errors of a form with audio, as `form`, `sound` and `request` raise them."""

TRANSLATING = (
    (402, "insufficient_balance"),
    (429, "too_many_sessions"),
    (429, "quota_exceeded"),
    (502, "translation_failed"),
    (502, "upstream_session_lost"),
    (502, "upstream_protocol_error"),
    (503, "no_capacity"),
    (503, "model_unavailable"),
    (503, "upstream_unavailable"),
    (504, "translation_timeout"),
)
"""Errors of a translation itself (gateway 8.4)."""

Code = Annotated[str, Meta(min_length=1, max_length=32, examples=["en"])]

FROM = Parameter(name="from", type=Code, description="Code of the language that is spoken.")
TO = Parameter(name="to", type=Code, description="Code of the language it is translated into.")

HEALTH = (
    Operation(
        method="GET",
        path="/health",
        id="health",
        summary="Whether the API answers at all",
        tag="health",
        open=True,
        response=str,
        response_media=TEXT,
    ),
    Operation(
        method="GET",
        path="/health/live",
        id="live",
        summary="The same",
        tag="health",
        open=True,
        response=str,
        response_media=TEXT,
    ),
    Operation(
        method="GET",
        path="/health/ready",
        id="ready",
        summary="Whether the API can do its work",
        tag="health",
        open=True,
        response=Check,
        others={503: Check},
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        id="openapi",
        summary="This document",
        tag="health",
        open=True,
        response=dict[str, Any],
    ),
)
"""What anybody may ask."""

SPEECH = (
    Operation(
        method="POST",
        path="/v1/speech/translate",
        id="translate",
        summary="Translate an utterance and wait for it",
        tag="speech",
        scope=Scope.TRANSLATE,
        parameters=(IDEMPOTENCY_KEY,),
        request=TranslateRequest,
        media=(FORM, JSON),
        audio=True,
        json_fields=("features", "auto_langs"),
        response=Translation,
        problems=UPLOAD + TRANSLATING + IDEMPOTENT,
        headers=REPLAYED,
    ),
    Operation(
        method="GET",
        path="/v1/languages",
        id="languages",
        summary="Which languages are served now",
        tag="speech",
        parameters=(FROM, TO),
        response=Languages,
        problems=((422, "unsupported_language"),),
    ),
    Operation(
        method="GET",
        path="/v1/capacity",
        id="capacity",
        summary="Whether there is room for so many sessions",
        tag="speech",
        parameters=(
            FROM,
            TO,
            Parameter(
                name="sessions",
                type=Annotated[int, Meta(ge=1, le=100_000)],
                description="How many; 1 if left out.",
            ),
        ),
        response=CapacityPage,
        problems=(*FIELDS, (422, "unsupported_language")),
    ),
    Operation(
        method="POST",
        path="/v1/stream/tickets",
        id="make_ticket",
        summary="Let a web page open one stream without a key",
        tag="speech",
        scope=Scope.TICKETS,
        request=TicketWish,
        status=201,
        response=Ticket,
        problems=(*BODY, (429, "too_many_tickets")),
    ),
)
"""Translation while the caller waits, and what it needs to know before."""

JOBS = (
    Operation(
        method="POST",
        path="/v1/speech/jobs",
        id="create_job",
        summary="Translate a recording later",
        tag="jobs",
        scope=Scope.TRANSLATE,
        parameters=(IDEMPOTENCY_KEY,),
        request=JobRequest,
        media=(FORM, JSON),
        audio=True,
        json_fields=("features", "auto_langs"),
        status=202,
        response=JobCreated,
        problems=(
            *UPLOAD,
            *IDEMPOTENT,
            (429, "too_many_jobs"),
            (503, "no_capacity"),
        ),
        headers=LOCATION | REPLAYED,
    ),
    Operation(
        method="GET",
        path="/v1/speech/jobs/{job_id}",
        id="show_job",
        summary="How far a translation is, and its result",
        tag="jobs",
        scope=Scope.JOBS,
        parameters=(in_path("job_id", "Id of a job."),),
        response=JobPage,
        problems=((404, "job_not_found"), *STORE),
    ),
    Operation(
        method="DELETE",
        path="/v1/speech/jobs/{job_id}",
        id="remove_job",
        summary="Give a translation up (202), or forget one that has ended (204)",
        tag="jobs",
        scope=Scope.TRANSLATE,
        parameters=(in_path("job_id", "Id of a job."),),
        status=204,
        others={202: JobPage},
        problems=((404, "job_not_found"), *STORE),
    ),
)
"""Translation that nobody waits for."""

ACCOUNT = (
    Operation(method="GET", path="/v1/me", id="me", summary="Whose key this is", tag="account", response=Me),
    Operation(
        method="GET",
        path="/v1/usage",
        id="usage",
        summary="What was used",
        tag="account",
        scope=Scope.USAGE,
        parameters=USAGE_QUERY,
        response=UsagePage,
        problems=FIELDS + STORE,
    ),
)

_KNOWN = ((404, "webhook_not_found"), *STORE)
_OFF = ((409, "webhook_disabled"),)

WEBHOOKS = (
    Operation(
        method="POST",
        path="/v1/webhooks",
        id="create_webhook",
        summary="Be told what happens",
        tag="webhooks",
        scope=Scope.WEBHOOKS,
        parameters=(IDEMPOTENCY_KEY,),
        request=WebhookWish,
        status=201,
        response=WebhookSecret,
        problems=(*BODY, *IDEMPOTENT, (409, "too_many_webhooks")),
        headers=LOCATION | REPLAYED,
    ),
    Operation(
        method="GET",
        path="/v1/webhooks",
        id="list_webhooks",
        summary="All webhooks",
        tag="webhooks",
        scope=Scope.WEBHOOKS,
        response=WebhookList,
        problems=FIELDS,
    ),
    Operation(
        method="GET",
        path="/v1/webhooks/{webhook_id}",
        id="show_webhook",
        summary="One webhook",
        tag="webhooks",
        scope=Scope.WEBHOOKS,
        parameters=(WEBHOOK_ID,),
        response=WebhookPage,
        problems=_KNOWN,
    ),
    Operation(
        method="PATCH",
        path="/v1/webhooks/{webhook_id}",
        id="change_webhook",
        summary="Change a webhook, or switch it on or off",
        tag="webhooks",
        scope=Scope.WEBHOOKS,
        parameters=(WEBHOOK_ID,),
        request=WebhookChange,
        response=WebhookPage,
        problems=BODY + _KNOWN,
    ),
    Operation(
        method="DELETE",
        path="/v1/webhooks/{webhook_id}",
        id="delete_webhook",
        summary="Forget a webhook",
        tag="webhooks",
        scope=Scope.WEBHOOKS,
        parameters=(WEBHOOK_ID,),
        status=204,
        problems=_KNOWN,
    ),
    Operation(
        method="POST",
        path="/v1/webhooks/{webhook_id}/rotate-secret",
        id="rotate_webhook",
        summary="A new secret; the old one signs too for a day",
        tag="webhooks",
        scope=Scope.WEBHOOKS,
        parameters=(WEBHOOK_ID,),
        response=WebhookSecret,
        problems=_KNOWN,
    ),
    Operation(
        method="POST",
        path="/v1/webhooks/{webhook_id}/test",
        id="test_webhook",
        summary="Send a `ping`",
        tag="webhooks",
        scope=Scope.WEBHOOKS,
        parameters=(WEBHOOK_ID,),
        status=202,
        response=DeliveryPage,
        problems=_KNOWN + _OFF,
    ),
    Operation(
        method="GET",
        path="/v1/webhooks/{webhook_id}/deliveries",
        id="list_deliveries",
        summary="What was sent, and what waits to be",
        tag="webhooks",
        scope=Scope.WEBHOOKS,
        parameters=(WEBHOOK_ID, LIMIT, CURSOR),
        response=DeliveryList,
        problems=FIELDS + _KNOWN,
    ),
    Operation(
        method="POST",
        path="/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
        id="redeliver",
        summary="Send an event once more",
        tag="webhooks",
        scope=Scope.WEBHOOKS,
        parameters=(WEBHOOK_ID, in_path("delivery_id", "Id of a delivery.")),
        status=202,
        response=DeliveryPage,
        problems=(*_KNOWN, *_OFF, (404, "delivery_not_found")),
    ),
)

OPERATIONS = HEALTH + SPEECH + JOBS + ACCOUNT + WEBHOOKS + ADMIN_OPERATIONS
"""All of them; a test compares them with the routes of the app."""
