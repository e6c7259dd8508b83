"""Newer prices from the network."""

import http.server
import json
import threading

import pytest

from nilometer.pricing import book, refreshing
from tests.pricing.calls import priced
from tests.running import wait_until

EDITION = [
    {
        "id": "openai",
        "name": "OpenAI",
        "api_pattern": "https://api",
        "models": [
            {
                "id": "gpt-4o",
                "match": {"equals": "gpt-4o"},
                "prices": {"input_mtok": "7", "output_mtok": "9"},
            }
        ],
    }
]


@pytest.fixture
def published():
    """A server of editions; `content` is what it serves."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(server.content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content = json.dumps(EDITION).encode()
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def bundled_again():
    yield
    book.use(book.bundled())


def test_a_fetched_edition_prices_and_has_a_version_of_its_own(published):
    edition = refreshing.fetch(published.url)
    cost = priced("openai", "gpt-4o", uncached_input=1_000_000, more={"book": edition})
    assert (cost.total, cost.version) == (7, edition.version)
    assert edition.version.startswith(book.bundled().version + " refreshed ")
    published.content = published.content.replace(b'"7"', b'"8"')
    assert refreshing.fetch(published.url).version != edition.version


def test_it_is_put_to_use_in_the_background(published):
    thread = refreshing.Refreshing(3600, published.url)
    thread.start()
    wait_until(lambda: "refreshed" in book.current().version)
    thread.stop()
    assert priced("openai", "gpt-4o", uncached_input=1_000_000).total == 7


def test_an_edition_that_cannot_be_read_changes_nothing(published, caplog):
    published.content = b"[]"
    thread = refreshing.Refreshing(3600, published.url)
    with caplog.at_level("WARNING"):
        thread.start()
        wait_until(lambda: "prices were not refreshed: ValueError" in caplog.text)
        thread.stop()
    assert book.current() is book.bundled()
