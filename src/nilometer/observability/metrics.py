"""Every metric, declared in one place with its meaning. Served at `/metrics` (Prometheus text).

No label ever holds a project's content, a key, or a value that a client can make up.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry(auto_describe=True)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_FAST_SECONDS = (0.0001, 0.00025, 0.0005, *_SECONDS)
_BYTES = (256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 26214400)

REQUESTS = Counter(
    "nilometer_capture_requests_total",
    "Capture requests, by door, HTTP status and reason (`ok` or an error code).",
    ("door", "status", "reason"),
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "nilometer_capture_request_seconds",
    "From the first byte of a capture request's headers to its answer.",
    ("door",),
    buckets=_FAST_SECONDS,
    registry=REGISTRY,
)
INFLIGHT_BYTES = Gauge(
    "nilometer_capture_inflight_bytes",
    "Request bytes held in memory.",
    registry=REGISTRY,
)
CONNECTIONS_OVER_LIMIT = Counter(
    "nilometer_connections_over_limit_total",
    "Connections that came while as many as allowed were open, by outcome (`idle_closed`: the one "
    "without a request for longest was closed for it; `refused`: it was answered 503).",
    ("outcome",),
    registry=REGISTRY,
)
OTLP_REJECTED = Counter(
    "nilometer_otlp_rejected_total",
    "What OTLP requests that were answered 200 held and Nilometer did not keep, by reason: spans "
    "that break a rule, spans that the project does not keep (`unwanted`), `metrics` and `logs`.",
    ("reason",),
    registry=REGISTRY,
)
BLOB_UPLOADS = Counter(
    "nilometer_blob_uploads_total",
    "Multipart blob objects written, by outcome (`stored` or `failed`).",
    ("outcome",),
    registry=REGISTRY,
)
PACK_UPLOADS = Counter(
    "nilometer_pack_uploads_total",
    "Objects of large values that the pipeline wrote, by outcome (`stored` or `failed`).",
    ("outcome",),
    registry=REGISTRY,
)
PACKED_BYTES = Counter(
    "nilometer_packed_bytes_total",
    "Bytes of the large values in them: as they were sent (`received`) and as `stored`.",
    ("form",),
    registry=REGISTRY,
)
BLOB_UPLOAD_SECONDS = Histogram(
    "nilometer_blob_upload_seconds",
    "Time to make one blob object durable.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
BLOB_BYTES = Histogram(
    "nilometer_blob_bytes",
    "Size of each blob as received, in bytes.",
    buckets=_BYTES,
    registry=REGISTRY,
)
BLOB_COMPRESSION = Histogram(
    "nilometer_blob_compression_ratio",
    "Stored size over received size of each blob that Nilometer compressed.",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1),
    registry=REGISTRY,
)
BLOBS_SWEPT = Counter(
    "nilometer_blobs_swept_total",
    "Objects deleted by the sweeper, by reason (`expired`, `orphan` or `temporary`).",
    ("reason",),
    registry=REGISTRY,
)
BLOB_SWEEPS = Counter(
    "nilometer_blob_sweeps_total",
    "Sweeps of the blob storage, by outcome (`complete`, `partial`: orphans could not be judged, "
    "or `failed`).",
    ("outcome",),
    registry=REGISTRY,
)
BLOB_SWEEP_COMPLETED = Gauge(
    "nilometer_blob_sweep_completed_timestamp_seconds",
    "When the last complete sweep ended, in seconds since the epoch; 0 before the first.",
    registry=REGISTRY,
)
APPEND_SECONDS = Histogram(
    "nilometer_log_append_seconds",
    "From a record's submission to its acknowledgement by the log.",
    buckets=_FAST_SECONDS,
    registry=REGISTRY,
)
FSYNC_SECONDS = Histogram(
    "nilometer_log_fsync_seconds",
    "Time of one commit, its fsync included.",
    buckets=_FAST_SECONDS,
    registry=REGISTRY,
)
COMMIT_RECORDS = Histogram(
    "nilometer_log_commit_records",
    "Records per commit.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    registry=REGISTRY,
)
LOG_RECORDS = Gauge(
    "nilometer_log_records", "Records kept in the log, read or not.", registry=REGISTRY
)
LOG_BYTES = Gauge("nilometer_log_bytes", "Bytes that the log takes on disk.", registry=REGISTRY)
LOG_LAG = Gauge(
    "nilometer_log_lag_records",
    "Records that a group has not committed.",
    ("group",),
    registry=REGISTRY,
)
LOG_LAG_SECONDS = Gauge(
    "nilometer_log_lag_seconds",
    "Age of the oldest record that a group has not committed; NaN while it is not known.",
    ("group",),
    registry=REGISTRY,
)
LOG_LOST = Counter(
    "nilometer_log_lost_records_total",
    "Records that the log deleted before a group had read them, as its readers found. Only a log "
    "with a retention does that (Kafka); more than 0 is a reason to be woken.",
    registry=REGISTRY,
)
QUERYABLE_SECONDS = Histogram(
    "nilometer_accept_to_queryable_seconds",
    "From an event's acceptance to its row being readable.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
STORE_INSERTS = Counter(
    "nilometer_store_inserts_total",
    "Inserts into the store, by table and outcome (`ok` or `failed`).",
    ("table", "outcome"),
    registry=REGISTRY,
)
STORE_ROWS = Counter(
    "nilometer_store_rows_total", "Rows inserted, by table.", ("table",), registry=REGISTRY
)
STORE_INSERT_SECONDS = Histogram(
    "nilometer_store_insert_seconds",
    "Time of one insert, by table.",
    ("table",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
PIPELINE_EVENTS = Counter(
    "nilometer_pipeline_events_total",
    "Events that the pipeline carried, by outcome (`stored`, `duplicate`, `dead_letter` or, of a "
    "project that is being deleted, `dropped`).",
    ("outcome",),
    registry=REGISTRY,
)
PIPELINE_WAITING = Gauge(
    "nilometer_pipeline_waiting",
    "1 while the pipeline waits, by reason (`store`, `database`, `log`, `blobs`, "
    "`newer_version`, `bad_release`, `error`).",
    ("reason",),
    registry=REGISTRY,
)
DEAD_LETTERS = Counter(
    "nilometer_dead_letters_total",
    "Events dead-lettered, by reason.",
    ("reason",),
    registry=REGISTRY,
)
DEAD_LETTERS_OPEN = Gauge(
    "nilometer_dead_letters_open",
    "Dead letters neither replayed nor discarded, by reason.",
    ("reason",),
    registry=REGISTRY,
)
NOTIFICATIONS = Counter(
    "nilometer_notification_attempts_total",
    "Attempts to send a notification, by kind of channel and outcome (`delivered`, `postponed`: it "
    "is tried again, `failed`: it was given up, `lost_lease` or `unknown`: it is sent again).",
    ("channel", "outcome"),
    registry=REGISTRY,
)
NOTIFICATIONS_WAITING = Gauge(
    "nilometer_notifications_waiting",
    "Deliveries that wait to be sent, or sent again.",
    registry=REGISTRY,
)
NOTIFICATIONS_WAITING_SECONDS = Gauge(
    "nilometer_notifications_waiting_seconds",
    "Age of the oldest of them.",
    registry=REGISTRY,
)
BUDGET_EVALUATIONS = Counter(
    "nilometer_budget_evaluations_total",
    "Evaluations of all budgets of a project, by outcome (`ok`, or `failed`: tried again).",
    ("outcome",),
    registry=REGISTRY,
)
BUDGET_SECONDS = Histogram(
    "nilometer_budget_evaluation_seconds",
    "Time of one evaluation of all budgets of a project.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
BUDGET_ALERTS = Counter(
    "nilometer_budget_alerts_total",
    "Thresholds of budgets that fired.",
    registry=REGISTRY,
)
BUDGET_CHECKS = Counter(
    "nilometer_budget_checks_total",
    "Checks before calls, by outcome (`allowed`, `stopped`, or `unknown`: the store or the "
    "database did not answer).",
    ("outcome",),
    registry=REGISTRY,
)
ALERT_LOOKS = Counter(
    "nilometer_alert_rule_looks_total",
    "Looks by one alert rule, by outcome (`ok`, or `failed`: tried again).",
    ("outcome",),
    registry=REGISTRY,
)
ALERTS = Counter(
    "nilometer_alerts_total",
    "Alerts of rules that fired or recovered, and unusual days that were told of.",
    registry=REGISTRY,
)
TASKS_CLAIMED = Counter(
    "nilometer_tasks_claimed_total",
    "Tasks that a worker took, by queue (the stage that works on it).",
    ("queue",),
    registry=REGISTRY,
)
TASKS_SETTLED = Counter(
    "nilometer_tasks_settled_total",
    "Tasks that a worker had, by queue and outcome (`done`, `retried`: tried again later, `dead`: "
    "given up, `released`: handed back untried, or `lost`: the lease had ended, another has it).",
    ("queue", "outcome"),
    registry=REGISTRY,
)
TASK_WAIT_SECONDS = Histogram(
    "nilometer_task_wait_seconds",
    "From a task's creation to its first claim, by queue.",
    ("queue",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
TASK_SECONDS = Histogram(
    "nilometer_task_seconds",
    "From the claim of a batch of tasks to its end, by queue.",
    ("queue",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
TASKS = Gauge(
    "nilometer_tasks",
    "Tasks kept, by queue and state (`ready`: waits for its time, its turn or a worker, `leased`: "
    "a worker has it, `dead`: a dead letter, or `discarded`).",
    ("queue", "state"),
    registry=REGISTRY,
)
TOOL_EXECUTIONS = Counter(
    "nilometer_tool_executions_total",
    "Attempts to execute a tool, by its kind and outcome (`succeeded`, `failed_for_now`, `failed` "
    "for good, `unknown`, or `deferred`: the tool's breaker is open and nothing was tried).",
    ("kind", "outcome"),
    registry=REGISTRY,
)
INCIDENT_TOOL_SECONDS = Histogram(
    "nilometer_incident_tool_seconds",
    "From the acceptance of an exception to the first attempt with each tool of its playbook.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
INCIDENTS_KEPT = Gauge(
    "nilometer_exceptions_kept",
    "Exceptions in the database, by status, as the worker that deletes the old ones last saw them.",
    ("status",),
    registry=REGISTRY,
)
INCIDENTS_EXPIRED = Counter(
    "nilometer_exceptions_expired_total",
    "Closed exceptions that were deleted because their project keeps them no longer.",
    registry=REGISTRY,
)
OUTBOX_RECORDS = Gauge(
    "nilometer_outbox_records",
    "Events of incidents that the log does not have yet.",
    registry=REGISTRY,
)
OUTBOX_SECONDS = Gauge("nilometer_outbox_seconds", "Age of the oldest of them.", registry=REGISTRY)
OUTBOX_RELAYED = Counter(
    "nilometer_outbox_relayed_total",
    "Events of incidents that were handed to the log.",
    registry=REGISTRY,
)
SPANS = Counter(
    "nilometer_spans_total",
    "Spans of Nilometer's own work, where tracing is on, by outcome (`ended`, and of these `sent` "
    "or `failed`: the receiver did not take them; the others wait or were dropped).",
    ("outcome",),
    registry=REGISTRY,
)
