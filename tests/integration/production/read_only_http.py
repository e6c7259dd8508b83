"""An HTTP client that can only read, and only from one host.

The rule is in the transport: `requests` sends every request through an adapter, redirected ones
too, and a session has none but this one. So no way through the session goes around it.
"""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import parse_url  # what the transport itself finds the host with

from tests.integration.production.configuration import Configuration
from tests.integration.production.pace import Pace
from tests.integration.production.refused import Refused

TIMEOUT = 60
READS = frozenset({"GET", "HEAD"})
# Some servers carry out the method that such a header names.
OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})


class ReadOnlyAdapter(HTTPAdapter):
    """Sends GET and HEAD to the configured host, and POST to the query path of the one project."""

    def __init__(self, configuration: Configuration, pace: Pace) -> None:
        super().__init__()
        self._origin = _origin(configuration.host)
        self._queries = {
            f"/api/{kind}/{configuration.project_id}/query/"
            for kind in ("projects", "environments")
        }
        self._pace = pace

    def send(self, request: requests.PreparedRequest, *rest: Any, **named: Any) -> Any:
        """Send it, or raise Refused before anything is opened."""
        self._check(request)
        self._pace.wait()
        return super().send(request, *rest, **named)

    def _check(self, request: requests.PreparedRequest) -> None:
        method, url = request.method or "", request.url or ""
        if _origin(url) != self._origin:
            raise Refused(f"{method} to another host")
        if OVERRIDES & {name.lower() for name in request.headers}:
            raise Refused(f"{method} that asks for another method")
        asks = method == "POST" and _target(url) in self._queries
        if method not in READS and not asks:
            raise Refused(f"{method} {_target(url)}")


class ReadOnlyApi:
    """The API of the deployment, as far as it can be read."""

    def __init__(self, configuration: Configuration, pace: Pace) -> None:
        self._configuration = configuration
        self.session = read_only_session(configuration, pace)

    def get(self, path: str) -> requests.Response:
        """GET a path, which begins with a slash."""
        url = self._configuration.host + path
        return self.session.get(url, timeout=TIMEOUT, allow_redirects=False)

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT, by column. AssertionError with the answer when it is refused."""
        url = f"{self._configuration.host}/api/projects/{self._configuration.project_id}/query/"
        body = {"query": {"kind": "HogQLQuery", "query": sql}}
        answer = self.session.post(url, json=body, timeout=TIMEOUT, allow_redirects=False)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text[:500]}"
        found = answer.json()
        return [dict(zip(found["columns"], row, strict=True)) for row in found["results"]]


def read_only_session(configuration: Configuration, pace: Pace) -> requests.Session:
    """A session whose only adapter is the one above."""
    session = requests.Session()
    session.trust_env = False  # ~/.netrc would put another key in place of ours
    session.headers["Authorization"] = f"Bearer {configuration.api_key}"
    session.adapters.clear()
    for scheme in ("https://", "http://"):
        session.mount(scheme, ReadOnlyAdapter(configuration, pace))
    return session


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    parts = parse_url(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme or "")
    return parts.scheme, parts.host, port


def _target(url: str) -> str:
    return parse_url(url).request_uri
