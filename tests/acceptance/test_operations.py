"""Phase 6: what dashboards and alerts are made of: metrics and readiness.

Numbers are of the whole deployment, which others may use at the same time: each test looks at what
its own requests add at least.
"""

from __future__ import annotations

import pytest

from tests.acceptance.llma import outage, polling
from tests.acceptance.llma.generators import KILOBYTE, MEGABYTE
from tests.acceptance.llma.multipart import event_parts, form

pytestmark = pytest.mark.phase_6

REQUESTS = "nilometer_capture_requests_total"
SECONDS = "nilometer_capture_request_seconds"
UPLOADS = "nilometer_blob_uploads_total"
BLOB_BYTES = "nilometer_blob_bytes"


@pytest.fixture
def growth(capture):
    """A function that tells how much a metric has grown since it was first asked for."""
    before = {}

    def grown(name, **labels):
        value = capture.metric(name, **labels)
        return value - before.setdefault((name, *labels.items()), value)

    return grown


def test_accepted_requests_and_their_latency_are_counted(sent, growth):
    counted = [(REQUESTS, {"status": "200"}), (f"{SECONDS}_count", {}), (f"{SECONDS}_sum", {})]
    for name, labels in counted:
        growth(name, **labels)
    for _ in range(3):
        sent()
    grown = [growth(name, **labels) for name, labels in counted]
    assert grown[0] >= 3
    assert grown[1] >= 3
    assert 0 < grown[2] < 60


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("400", "missing_model"),
        ("400", "invalid_boundary"),
        ("401", "authentication_failed"),
        ("413", "payload_too_large"),
    ],
)
def test_errors_are_counted_by_status_and_reason(capture, team, data, growth, status, reason):
    good = form(event_parts(data.event(), data.properties()))
    large = form(event_parts({**data.event(), "extra": "x" * 40_000}, data.properties()))
    send = {
        "missing_model": lambda: capture.send_event(team.token, data.event(), {"a": 1}),
        "invalid_boundary": lambda: capture.send_form(
            team.token, good, Content_Type="multipart/form-data"
        ),
        "authentication_failed": lambda: capture.send_form("phc_of-nobody-at-all", good),
        "payload_too_large": lambda: capture.send_form(team.token, large),
    }[reason]
    growth(REQUESTS, status=status, reason=reason)
    for _ in range(2):
        assert send().status_code == int(status)
    assert growth(REQUESTS, status=status, reason=reason) >= 2


def test_uploads_and_the_sizes_of_blobs_are_counted(sent, data, growth):
    blobs = [data.blob("binary", MEGABYTE, "$ai_large"), data.blob("binary", 10, "$ai_small")]
    growth(UPLOADS, outcome="stored")
    for name in ("_count", "_sum", "_bucket"):
        growth(BLOB_BYTES + name, **({"le": "256.0"} if name == "_bucket" else {}))
    sent(*blobs)
    assert growth(UPLOADS, outcome="stored") >= 1
    assert growth(f"{BLOB_BYTES}_count") >= 2
    assert growth(f"{BLOB_BYTES}_sum") >= MEGABYTE + 10
    assert growth(f"{BLOB_BYTES}_bucket", le="256.0") >= 1


def test_how_well_blobs_compress_is_measured(sent, data, growth):
    ratio = "nilometer_blob_compression_ratio"
    growth(f"{ratio}_count")
    growth(f"{ratio}_sum")
    sent(data.blob("text", 100 * KILOBYTE))
    assert growth(f"{ratio}_count") >= 1
    assert 0 < growth(f"{ratio}_sum") / growth(f"{ratio}_count") < 1


def test_the_time_until_events_can_be_queried_is_measured(sent, growth):
    measure = "nilometer_accept_to_queryable_seconds"
    growth(f"{measure}_count")
    sent()
    # An event can be read a moment before it is counted.
    polling.until(lambda: growth(f"{measure}_count") >= 1, "the event is counted", 20)


def test_every_role_tells_that_it_is_ready(capture):
    for role in ("capture", "worker", "api"):
        ready, checks = capture.readiness(role)
        assert ready
        assert set(checks.values()) == {"ok"}


@pytest.mark.outage
def test_failed_uploads_are_counted_and_seen_in_readiness(capture, team, data, growth, outages):
    growth(UPLOADS, outcome="failed")
    growth(REQUESTS, status="503", reason="blobs_unavailable")
    with outages.of(outage.S3) as s3:
        s3.begin()
        blob = data.blob("text", 100)
        refused = capture.send_event(team.token, data.event(), data.properties(), [blob])
        assert refused.status_code == 503
        assert growth(UPLOADS, outcome="failed") >= 1
        assert growth(REQUESTS, status="503", reason="blobs_unavailable") >= 1
        assert not capture.readiness()[0]
        s3.end()
