"""The HTTP client of the production suite reads, and nothing else leaves it: not a byte."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from tests.integration.listener import listening
from tests.integration.production.pace import Pace
from tests.integration.production.read_only_http import ReadOnlyApi
from tests.integration.production.refused import Refused

QUERY = "/api/projects/12/query/"
REFUSED = [
    ("PUT", QUERY),
    ("PATCH", QUERY),
    ("DELETE", "/api/projects/12/"),
    ("OPTIONS", "/"),
    ("TRACE", "/"),
    ("put", "/"),
    ("POST", "/"),
    ("POST", "/i/v0/ai"),
    ("POST", "/api/projects/12/query"),
    ("POST", "/api/projects/12/query/?format=csv"),
    ("POST", "/api/projects/12/query/../keys/"),
    ("POST", "/api/projects/12/query/%2e%2e/keys/"),
    ("POST", "/api/projects/12/keys/"),
    ("POST", "/api/projects/13/query/"),
    ("POST", "/api/projects/@current/query/"),
    ("POST", "/api/environments/13/query/"),
    ("POST", "/api/projects/12/rotate/"),
    ("POST", "//api/projects/12/query/"),
]


@contextmanager
def reading(configured, url):
    api = ReadOnlyApi(configured(url), Pace(0))
    with api.session:
        yield api


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_not_a_byte_of_anything_else_is_sent(configured, method, path):
    with (
        listening() as listener,
        reading(configured, listener.url) as api,
        pytest.raises(Refused),
    ):
        api.session.request(method, listener.url + path, data=b"x" * 100, timeout=5)
    assert (listener.connections, listener.received) == (0, b"")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/x"), ("HEAD", "/x"), ("POST", QUERY)], ids=str
)
def test_the_listener_would_have_seen_it(configured, method, path):
    with (
        listening() as listener,
        reading(configured, listener.url) as api,
        pytest.raises(requests.ConnectionError),  # it hangs up without an answer
    ):
        api.session.request(method, listener.url + path, timeout=5)
    assert listener.connections == 1
    assert listener.received.startswith(f"{method} {path} HTTP/1.1".encode())
    assert b"Bearer the-key" in listener.received


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "x-method-override", "X-HTTP-Method"])
def test_no_header_asks_for_another_method(configured, header):
    with (
        listening() as listener,
        reading(configured, listener.url) as api,
        pytest.raises(Refused),
    ):
        api.session.get(listener.url, headers={header: "DELETE"}, timeout=5)
    assert listener.connections == 0


def test_no_other_host_is_asked_however_it_is_written(configured):
    with listening() as ours, listening() as other, reading(configured, ours.url) as api:
        mine, theirs = ours.url.removeprefix("http://"), other.url.removeprefix("http://")
        for url in (
            other.url,
            f"http://{mine}@{theirs}/",
            f"http://{theirs}/?{mine}",
            f"http://{theirs}#{mine}",
            f"http://{theirs}\\@{mine}/",
            ours.url.replace("http:", "https:"),
            ours.url.replace("127.0.0.1", "localhost"),
        ):
            with pytest.raises((Refused, requests.RequestException)):
                api.session.get(url, timeout=5)
    assert (other.connections, ours.connections) == (0, 0)


def test_a_scheme_that_has_no_transport_goes_nowhere(configured):
    with (
        reading(configured, "http://127.0.0.1:1") as api,
        pytest.raises(requests.exceptions.InvalidSchema),
    ):
        api.session.get("ftp://127.0.0.1:1/", timeout=5)


@contextmanager
def redirecting(to, status):
    """A server that sends everybody somewhere else, and keeps what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            asked.append((self.command, self.path))
            self.send_response(status)
            self.send_header("Location", to)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join(90)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_elsewhere_is_not_followed(configured, status):
    with listening() as other, redirecting(other.url + QUERY, status) as (url, asked):
        with reading(configured, url) as api:
            for method, path in (("GET", "/x"), ("POST", QUERY)):
                with pytest.raises(Refused):
                    api.session.request(method, url + path, timeout=5)
            assert api.get("/x").status_code == status  # nor by the client's own reads
        assert asked == [("GET", "/x"), ("POST", QUERY), ("GET", "/x")]
    assert (other.connections, other.received) == (0, b"")


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirected_query_is_not_sent_to_another_path(configured, status):
    with (
        redirecting("/api/projects/12/keys/", status) as (url, asked),
        reading(configured, url) as api,
        pytest.raises(Refused),
    ):
        api.session.post(url + QUERY, json={}, timeout=5)
    assert asked == [("POST", QUERY)]


def test_every_request_is_paced(configured):
    paced = []

    class Counting(Pace):
        def wait(self):
            paced.append(1)

    with redirecting("/api/projects/12/x", 302) as (url, asked):
        api = ReadOnlyApi(configured(url), Counting(0))
        with api.session, pytest.raises(requests.TooManyRedirects):
            api.session.get(url + "/x", timeout=5)
    assert len(paced) == len(asked) > 1
