"""The capture door: events in, and what an operator's machinery reads beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.llma.configuration import Configuration
from tests.acceptance.llma.multipart import Blob, Form, Part, event_parts, form

PATH = "/i/v0/ai"
SECONDS = 60


class Capture:
    """Sends AI events. Every call answers with the response, whatever its status."""

    def __init__(self, configuration: Configuration) -> None:
        self.url = configuration.capture_endpoint + PATH
        self._host = configuration.host
        self._session = requests.Session()

    def send_event(
        self,
        key: str,
        event: Mapping[str, Any],
        properties: Mapping[str, Any],
        blobs: Iterable[Blob] = (),
        *,
        boundary: str | None = None,
        gzipped: bool = False,
    ) -> requests.Response:
        """Send one event with its blobs, as a well-behaved client does."""
        parts = event_parts(event, properties, blobs)
        return self.send_form(key, form(parts, boundary=boundary, gzipped=gzipped))

    def send_parts(self, key: str, parts: Sequence[Part], **headers: str) -> requests.Response:
        """Send any parts; `headers` (underscores for hyphens) go with the request."""
        return self.send_form(key, form(parts), **headers)

    def send_form(self, key: str | None, form: Form, **headers: str) -> requests.Response:
        """Send a whole body; without a key no Authorization header goes with it."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            named["Authorization"] = f"Bearer {key}"
        return self._session.post(
            self.url, data=form.body, headers={**form.headers, **named}, timeout=SECONDS
        )

    def readiness(self, role: str = "capture") -> tuple[bool, dict[str, str]]:
        """Whether the role is ready, and its checks by name: `ok`, or what is wrong."""
        answer = self._session.get(
            f"{self._host}/_readiness", params={"role": role}, timeout=SECONDS
        )
        checks: dict[str, str] = answer.json()["roles"][role]["checks"]
        return answer.status_code == 200, checks

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels; 0 if there are none."""
        answer = self._session.get(f"{self._host}/metrics", timeout=SECONDS)
        assert answer.status_code == 200, answer.text
        return sum(
            sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
