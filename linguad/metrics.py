"""Every Prometheus metric of linguad, in one place (pools-and-cluster 7.5; names `scheduler_` are frozen)."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram

MAX_VALUES = 200
"""Values of a label that peers can make up; what comes later is `other`."""

OTHER = "other"


class FewValues:
    """Values of a label, the first so many: what peers say cannot make the metrics grow."""

    def __init__(self, most: int = MAX_VALUES) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value, or `other`."""
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value


LINKS_OPEN = Gauge("linguad_links_open", "Open WebSocket connections", ["kind"])
LINK_CLOSES = Counter(
    "linguad_link_closes_total", "WebSocket connections closed by linguad", ["kind", "reason"]
)
LINK_CRASHES = Counter("linguad_link_crashes_total", "Connections ended by a bug in their handler", ["kind"])
FRONT_CONNECTIONS = Counter(
    "linguad_front_connections_total", "Connections by what their first bytes were", ["port", "route"]
)
OUTBOX_DROPPED = Counter(
    "linguad_outbox_dropped_total", "Optional messages dropped for a slow reader", ["kind"]
)
OUTBOX_LATE = Counter(
    "linguad_outbox_late_total", "Messages that were not made in time and went in a shorter form", ["kind"]
)
MESSAGES = Counter("linguad_messages_total", "Messages received", ["link", "type"])
REPAIRED = Counter(
    "linguad_wire_repaired_total", "Optional members dropped because they were malformed", ["link"]
)
REJECTED = Counter("linguad_wire_rejected_total", "Messages that could not be used", ["link", "code"])

JOBS_CREATED = Counter("linguad_jobs_created_total", "Jobs made of utterances")
JOBS_FINISHED = Counter("linguad_jobs_finished_total", "Jobs by what they came to", ["outcome"])
NO_NODE = Counter(
    "scheduler_no_available_node_total",
    "Jobs no node was found for, by what was asked for and the summary reason",
    ["selector", "reason"],
)
POOL_SELECTED = Counter(
    "scheduler_phase3_pool_selected_total",
    "Selections by the pool chosen, of a miss the preferred one",
    ["pool", "outcome", "fallback"],
)
POOL_ATTEMPTS = Counter(
    "scheduler_phase3_pool_attempt_total", "Pools asked for a node", ["pool", "result", "reason"]
)
ATTEMPTS = Counter("linguad_attempts_total", "Attempts by how they ended", ["end"])
RESULTS_DROPPED = Counter("linguad_results_dropped_total", "Answers of nodes that fit nothing", ["why"])
QUEUE_SECONDS = Histogram(
    "linguad_queue_seconds",
    "From the cut of an utterance to its dispatch",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10),
)
SESSIONS = Gauge("linguad_sessions", "Sessions, attached or waiting to be taken up again", ["state"])
RESUMES = Counter(
    "linguad_resumes_total", "Clients that asked for a lost session, by whether it goes on", ["recovered"]
)
ROOMS = Gauge("linguad_rooms", "Rooms, and the sessions that are in one", ["what"])
NODES = Gauge("linguad_nodes", "Nodes by status", ["status"])
HTTP_REQUESTS = Counter("linguad_http_requests_total", "HTTP requests by status", ["app", "status"])
BUFFERED_BYTES = Gauge("linguad_buffered_bytes", "Bytes held for connections (server.max_buffered_bytes)")
SERVICES_MISSING = Counter("linguad_services_missing_total", "Services that nodes lacked although reported")
FAILURES_FORGIVEN = Counter(
    "linguad_failures_forgiven_total", "Failures not counted against nodes, because they may be ours", ["why"]
)
STANDSTILLS = Counter("linguad_standstills_total", "Times this process did not run for more than a second")
MISSING_TYPES = Counter(
    "linguad_missing_types_total",
    "Jobs refused while nodes lacked a type of service, by its most frequent reason",
    ["type", "reason"],
)
ACTIONS_FAILED = Counter("linguad_actions_failed_total", "Decisions that a bug kept from being carried out")
ERRORS_SWALLOWED = Counter(
    "linguad_errors_swallowed_total", "Errors clients were not told, to not tell the same again", ["code"]
)
SPEECH_SECONDS = Histogram(
    "linguad_speech_seconds",
    "Conversion of a result's speech to PCM16 in the worker thread",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)
SPEECH_UNDECODABLE = Counter(
    "linguad_speech_undecodable_total", "Speech of results that could not be converted"
)
SPEECH_OVERLOAD = Counter(
    "linguad_speech_overload_total", "Results sent without speech, because too much waited for conversion"
)
GATEWAY_REQUESTS = Counter(
    "linguad_gateway_requests_total",
    "Requests to the public API by route, method and status; 499 is a client that went away",
    ["route", "method", "status"],
)
GATEWAY_SECONDS = Histogram(
    "linguad_gateway_request_seconds",
    "Time until the answer to a request to the public API",
    ["route", "method"],
    buckets=(0.002, 0.01, 0.05, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 150),
)
GATEWAY_REFUSALS = Counter(
    "linguad_gateway_refusals_total", "Requests that the public API turned away at its door", ["code"]
)
GATEWAY_SESSIONS = Gauge(
    "linguad_gateway_sessions", "Translations, open streams and running jobs of the public API"
)
WEBHOOK_ATTEMPTS = Counter(
    "linguad_webhook_attempts_total", "Tries of deliveries to webhooks by what they came to", ["outcome"]
)
WEBHOOK_QUEUE = Gauge(
    "linguad_webhook_queue",
    "Deliveries to webhooks: unwritten are not in the store yet, waiting are due now or later",
    ["state"],
)
WEBHOOK_EVENTS_LOST = Counter(
    "linguad_webhook_events_lost_total", "Events not told to webhooks, because too many waited for the store"
)
WEBHOOKS_DISABLED = Counter(
    "linguad_webhooks_disabled_total", "Webhooks switched off, because their receiver failed or wanted it"
)
SPEECH_JOBS = Gauge(
    "linguad_speech_jobs_open", "Asynchronous translations of this instance, by state", ["state"]
)
SPEECH_JOBS_ENDED = Counter(
    "linguad_speech_jobs_ended_total", "Asynchronous translations by what they came to", ["status"]
)
USAGE_ROWS = Counter("linguad_usage_rows_total", "Rows of usage, by whether the store got them", ["state"])
USAGE_WAITING = Gauge("linguad_usage_waiting", "Rows and settlements that the store has not got yet")
CHARGED_SECONDS = Counter(
    "linguad_charged_seconds_total", "Speech whose translation was delivered, each utterance once"
)
STREAMS = Gauge("linguad_streams", "Sockets of /v1/stream by what they are about", ["state"])
STREAM_LATE = Counter(
    "linguad_stream_late_total", "Answers that came after an utterance of a stream had been answered"
)
REDIS_CIRCUIT = Gauge(
    "linguad_redis_circuit", "Links to Redis: 0 connected, 1 trying to connect, 2 waiting to try", ["link"]
)
REDIS_CONNECTS = Counter(
    "linguad_redis_connects_total", "Attempts to connect to Redis by what they came to", ["link", "outcome"]
)
REDIS_OPS = Counter("scheduler_phase2_redis_op_total", "Commands to Redis", ["op", "result"])
REDIS_SECONDS = Histogram(
    "linguad_redis_op_duration_seconds",
    "From a command to Redis to its reply, on the connection that all share",
    ["op"],
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
INSTANCES = Gauge("linguad_instances", "Live instances, this one included, as last looked up")
INSTANCES_ADOPTED = Counter(
    "linguad_instances_adopted_total", "Dead instances whose inbox this one has taken over"
)
LETTERS = Counter(
    "linguad_letters_total",
    "Letters to other instances (sent, refused, lost) and from them (delivered, expired, dead …), by kind",
    ["kind", "what"],
)
REMOTE_JOBS = Counter(
    "linguad_remote_jobs_total",
    "Jobs between instances: on the asker's side asked, unsent, refused, answered, lost; declined_REASON on "
    "the side of the node's owner",
    ["what"],
)
DIRECTORY_WRITES = Counter(
    "linguad_directory_writes_total", "Records of our nodes written to the directory in Redis, or removed"
)
DIRECTORY_READS = Counter(
    "linguad_directory_reads_total", "Records of nodes read from the directory in Redis"
)
INBOX_PENDING = Gauge(
    "scheduler_phase2_inbox_pending", "Letters in this instance's inbox that are not done with"
)
DEAD_LETTERS = Counter("scheduler_phase2_dlq_moved_total", "Letters that became dead letters here")

HUB_REVISION = Gauge(
    "linguad_hub_revision", "Revision of the hub's catalogue, Unix time in ms of its last change"
)
HUB_READ_AT = Gauge("linguad_hub_read_timestamp_seconds", "When the hub last looked at its whole disk")
HUB_UNHASHED = Gauge("linguad_hub_unhashed_files", "Files of the hub that have no digest yet")
HUB_DOWNLOADS = Gauge("linguad_hub_downloads", "Downloads from the hub that are under way")
HUB_REQUESTS = Counter("linguad_hub_file_requests_total", "Requests for files of the hub", ["status"])
HUB_SENT_BYTES = Counter("linguad_hub_sent_bytes_total", "Bytes of files that the hub sent")
SERVICES_FAILURES = Gauge(
    "scheduler_service_catalog_fail_count", "Failures in a row to get the list of services from a hub"
)
SERVICES_AGE = Gauge(
    "scheduler_service_catalog_last_success_age_seconds",
    "How long ago a hub gave its list of services; 0 if it never did",
)
HUB_DISK_FREE = Gauge("linguad_hub_disk_free_bytes", "Free space of the disk that holds the models")


@lru_cache(maxsize=1024)
def child(counter: Counter, *values: str) -> Counter:
    """The part of a counter with these label values, faster than `labels` where every message is counted."""
    return counter.labels(*values)


@lru_cache(maxsize=1024)
def timer(histogram: Histogram, *values: str) -> Histogram:
    """As `child`, of a histogram."""
    return histogram.labels(*values)
