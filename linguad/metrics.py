"""Every Prometheus metric of linguad, in one place (pools-and-cluster 7.5; names `scheduler_` are frozen)."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from linguad.counters import ReadCounter, ReadGauge
from linguad.durations import DurationMetric

MAX_VALUES = 200
"""Values of a label that peers can make up; what comes later is `other`."""

OTHER = "other"

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Of the metrics that the earlier server had, s."""

STAGES = ("cut", "queue", "send", "node", "reorder", "total")
"""The times of an utterance, from its last sound to its result: see TimeBreakdown in docs/protocol.md."""


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


disable_created_metrics()  # type: ignore[no-untyped-call]
# the time each series began would be a series of its own

LINKS_OPEN = Gauge("linguad_links_open", "Open WebSocket connections", ["kind"])
LINK_CLOSES = Counter(
    "linguad_link_closes_total", "WebSocket connections closed by linguad", ["kind", "reason"]
)
LINK_CRASHES = Counter("linguad_link_crashes_total", "Connections ended by a bug in their handler", ["kind"])
for _kind in ("front", "session", "node", "stream", "listen", "webhook", "hub"):
    # else the first crash would be no increase
    LINK_CRASHES.labels(_kind)
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
JOBS_FINISHED = ReadCounter("linguad_jobs_finished_total", "Jobs by what they came to", ["outcome"])
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
SESSIONS = Gauge("linguad_sessions", "Sessions, attached or waiting to be taken up again", ["state"])
RESUMES = Counter(
    "linguad_resumes_total", "Clients that asked for a lost session, by whether it goes on", ["recovered"]
)
SESSIONS_TAKEN = Counter(
    "linguad_sessions_moved_total",
    "Sessions that were taken over from another instance, or lost to one",
    ["what"],
)
SESSION_WRITES = Counter("linguad_session_writes_total", "Sessions written down for other instances")
ROOMS = Gauge("linguad_rooms", "Rooms, and the sessions that are in one", ["what"])
NODES = Gauge("linguad_nodes", "Nodes by status", ["status"])
POOL_MEMBERS = ReadGauge(
    "linguad_pool_members",
    "Ready nodes by the id of their capability pool; without pools by languages, as en>es, the largest 200",
    ["pool"],
)
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
TRACED = Counter(
    "linguad_traced_total",
    "Utterances to be traced, by whether the collector got their spans: exported, failed, dropped",
    ["outcome"],
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
    "scheduler_redis_op_duration_seconds",
    "From a command to Redis to its reply, on the connection that all share",
    ["op"],
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
INSTANCES = Gauge("linguad_instances", "Live instances, this one included, as last looked up")
INSTANCES.set(1)
PRESENCE_HEARTBEATS = Counter(
    "scheduler_phase2_presence_heartbeat_total", "How often this instance told the others that it lives"
)
DIRECTORY_AGE = Gauge(
    "linguad_directory_age_seconds",
    "How long ago the nodes of other instances were last looked up; 0 without others",
)
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
    "scheduler_phase2_inbox_pending", "Letters in this instance's inbox: unread, or not removed yet"
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

STAGE_SECONDS = DurationMetric(
    "linguad_stage_seconds",
    "Time of utterances that got a text in each stage, from their last sound to their result",
    (0.0005, *BUCKETS, 10.0, 30.0, 60.0),
    "stage",
    STAGES,
)
DISPATCH_LATENCY = DurationMetric(
    "scheduler_dispatch_latency_seconds",
    "From the beginning of a step of the dispatcher until a job of it is handed to its node's socket",
    (0.0001, 0.0002, 0.0005, *BUCKETS),
)
SELECTION_SECONDS = DurationMetric(
    "scheduler_node_selection_duration_seconds",
    "Deciding about a new utterance: its job, its pool, its node",
    (0.00005, 0.0001, 0.0002, 0.0005, *BUCKETS),
)
SLOW_PATHS = Counter(
    "scheduler_slow_path_total", "Steps of the dispatcher that took longer than log.slow_path_ms", ["path"]
)
JOBS_OPEN = Gauge("linguad_jobs_open", "Jobs that are not over")
JOBS_WAITING = Gauge("linguad_jobs_waiting", "Jobs that wait for a node")
SLOTS = Gauge("linguad_slots", "Jobs that ready nodes can do at once, and slots in use", ["state"])
NODES_KNOWN = Gauge("scheduler_nodes_total", "Nodes by status, as linguad_nodes", ["status"])
SESSIONS_KNOWN = Gauge("scheduler_sessions_total", "Sessions with a connection")
JOBS_TOTAL = ReadCounter(
    "scheduler_jobs_total", "Jobs that ended: completed, without_text, failed or cancelled", ["status"]
)
RESERVATIONS = ReadCounter(
    "scheduler_reserve_attempt_total",
    "Slots of nodes asked for: success, or fail if none was free",
    ["result"],
)
OVERLOAD_REJECTS = ReadCounter(
    "scheduler_node_overload_reject_total",
    "How often a node was passed over when a job found none: full, not_ready or other; 100 nodes at most",
    ["node_id", "reason"],
)
ACK_TIMEOUTS = Counter("scheduler_ack_timeout_total", "Attempts whose node did not answer in time")
RERUNS = ReadCounter(
    "linguad_reruns_total",
    "Recognitions that nodes repeated, and what came of it, summed over nodes and their restarts",
    ["what"],
)
QUALITY_BY_NODE = Counter(
    "linguad_quality_by_node_total", "Results by what their node says of the recognition", ["node", "level"]
)
QUALITY_BY_PAIR = Counter(
    "linguad_quality_by_pair_total", "The same by the languages, as en>es", ["pair", "level"]
)
REASONS_BY_NODE = Counter(
    "linguad_reason_codes_by_node_total", "Why nodes find a recognition doubtful", ["node", "code"]
)
REASONS_BY_PAIR = Counter(
    "linguad_reason_codes_by_pair_total", "The same by the languages, as en>es", ["pair", "code"]
)
PAUSE_MS = Gauge("scheduler_web_task_pause_ms", "sessions.pause_ms: silence that ends an utterance")
FINALIZED = Counter(
    "scheduler_web_task_finalized_total",
    "Utterances by what ended them: send (the client), timeout (a pause), max_duration, max_length, close",
    ["reason"],
)
BACKLOG = Gauge("scheduler_session_actor_backlog_size", "Utterances of all sessions that are worked on")
EMPTY_FINALS = Counter(
    "scheduler_duplicate_finalize_suppressed_total",
    "Finals that ended nothing, because their utterance was cut before; counted when a session ends",
)
REPEATED_UTTERANCES = Counter(
    "scheduler_duplicate_job_blocked_total",
    "Utterances that came again and led to no second job; counted when a session ends",
)
GAP_TIMEOUTS = Counter(
    "scheduler_result_gap_timeout_total", "Utterances that the later ones waited for no longer"
)
FINALIZE_LATENCY = Gauge(
    "scheduler_average_finalize_latency_ms", "Mean time from the last sound of an utterance to its cut"
)
MODEL_NA_RECEIVED = Counter("scheduler_model_na_received_total", "Reports of nodes that they lack a model")
MODEL_NA_LIMITED = Counter(
    "scheduler_model_na_rate_limited_total", "Such reports that came faster than is believed"
)
MODEL_NA_MARKED = Counter(
    "scheduler_model_na_marked_total", "Such reports after which a service was not used"
)
MODEL_NA_BY_SERVICE = Counter(
    "scheduler_model_na_by_service_total", "Such reports by service", ["service_id"]
)
MODEL_NA_BY_REASON = Counter(
    "scheduler_model_na_by_reason_total", "Such reports by the node's reason", ["reason"]
)
MODEL_NA_LIMITED_BY_NODE = Counter(
    "scheduler_model_na_rate_limited_by_node_total", "Reports that came too fast, by node", ["node_id"]
)
MODEL_NA_MARKED_BY_NODE = Counter(
    "scheduler_model_na_marked_by_node_total",
    "Reports after which a service was not used, by node",
    ["node_id"],
)
MODEL_NA_OTHER_SERVICE = Counter(
    "scheduler_model_na_other_service_total", "Reports of services beyond the first 200"
)
MODEL_NA_OTHER_REASON = Counter(
    "scheduler_model_na_other_reason_total", "Reports with reasons beyond the first 200"
)
MODEL_NA_OTHER_LIMITED = Counter(
    "scheduler_model_na_other_rate_limited_node_total",
    "Reports that came too fast, of nodes beyond the first 100",
)
MODEL_NA_OTHER_MARKED = Counter(
    "scheduler_model_na_other_marked_node_total",
    "Reports after which a service was not used, of nodes beyond the first 100",
)
STATS_REQUESTS = Counter("scheduler_stats_requests_total", "Requests of /api/v1/stats")
STATS_STALE = Counter("scheduler_stats_stale_total", "Answers of /api/v1/stats that were older than 10 s")
STATS_SECONDS = DurationMetric(
    "scheduler_stats_request_duration_seconds", "Time until the answer to /api/v1/stats", BUCKETS
)
STATS_AGE = Gauge(
    "scheduler_dashboard_snapshot_age_seconds",
    "Age of what /api/v1/stats tells; 0 if nothing was counted yet",
)
LIVE_LISTENERS = Gauge("linguad_live_listeners", "Dashboards and terminals that follow /api/v1/live")
LOOP_LAG = DurationMetric(
    "linguad_loop_lag_seconds",
    "How much later than due the event loop came to a task, sampled ten times per second: its longest step",
    (0.0005, *BUCKETS),
)


@lru_cache(maxsize=1024)
def child(counter: Counter, *values: str) -> Counter:
    """The part of a counter with these label values, faster than `labels` where every message is counted."""
    return counter.labels(*values)


@lru_cache(maxsize=1024)
def timer(histogram: Histogram, *values: str) -> Histogram:
    """As `child`, of a histogram."""
    return histogram.labels(*values)
