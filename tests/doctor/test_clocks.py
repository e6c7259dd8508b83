"""A clock is found wrong by what a request can prove, and not by how long it took."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nilometer.doctor.clocks import judged, skew
from tests.doctor.deployments import examined


@pytest.mark.parametrize(
    ("told", "resolution", "expected"),
    [
        (100.0, 0, 0.0),
        (100.5, 0, 0.0),  # within the request
        (105.0, 0, 4.0),
        (90.0, 0, -10.0),
        (99.0, 1, 0.0),  # an HTTP date: up to a second early
        (97.0, 1, -2.0),
    ],
)
def test_only_what_the_request_cannot_explain_counts(told, resolution, expected):
    assert skew(told, 100.0, 101.0, resolution=resolution) == expected


@pytest.mark.parametrize(
    ("seconds", "outcome", "said"),
    [
        (0.0, "ok", "agrees"),
        (-1.0, "ok", "agrees"),
        (3.0, "warning", "3.0 s ahead of"),
        (-3.0, "warning", "3.0 s behind"),
        (901.0, "failed", "901.0 s ahead of"),
    ],
)
def test_seconds_are_a_warning_and_a_quarter_of_an_hour_a_failure(seconds, outcome, said):
    verdict = judged("S3", seconds)
    assert verdict.outcome == outcome
    assert said in verdict.found


@pytest.mark.parametrize("date", ["soon", "Fri, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_a_date_that_is_no_time_tells_none(monkeypatch, date):
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(403)
            self.end_headers()

        def date_time_string(self, timestamp=None):
            return date

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        found = examined("blobs.clock", blobs_url="s3://bucket")["blobs.clock"]
        server.shutdown()
    assert (found.outcome.value, "does not tell its time" in found.found) == ("ok", True), found
