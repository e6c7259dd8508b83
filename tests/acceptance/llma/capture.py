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
        self._processes = configuration.processes
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
        """Whether the role is ready in every process that has it, and its checks by name: `ok`, or
        what is wrong."""
        ready, checks = True, dict[str, str]()
        for process in self._processes:
            answer = self._session.get(
                f"{process}/_readiness", params={"role": role}, timeout=SECONDS
            )
            if answer.status_code == 400:  # a process without the role
                continue
            ready = ready and answer.status_code == 200
            found: dict[str, str] = answer.json()["roles"][role]["checks"]
            checks |= {name: text for name, text in found.items() if checks.get(name, "ok") == "ok"}
        assert checks, f"no process has the role {role}"
        return ready, checks

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels, over all processes; 0 if
        there are none."""
        return sum(
            sample.value
            for process in self._processes
            for family in text_string_to_metric_families(self._metrics(process))
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def _metrics(self, process: str) -> str:
        answer = self._session.get(f"{process}/metrics", timeout=SECONDS)
        assert answer.status_code == 200, answer.text
        return answer.text

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
