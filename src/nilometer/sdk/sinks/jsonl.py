"""`jsonl:///path/usage.jsonl`: a file, one metric a line, that several processes may share.

Lines are appended whole, under a lock, and synced. A file that has `rotate` bytes is renamed, with
the moment in its name, and a new one begun; of those the newest `keep` are kept, all by default.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.sdk.appending import append, locked
from nilometer.sdk.seldom import Seldom
from nilometer.sdk.sinks.port import Failed
from nilometer.sdk.turns import in_turns

_LOG = logging.getLogger(__name__)

ROTATE_BYTES = 100 * 1024 * 1024


class JsonlSink:
    """Appends to a file. `keep` 0 keeps every rotated one: usage is money, and nothing deletes it
    unasked."""

    batch_size = 1000
    wants_prices = True
    local = True

    def __init__(self, path: str | Path, *, rotate: int = ROTATE_BYTES, keep: int = 0) -> None:
        self._path = Path(path)
        self._rotate = rotate
        self._keep = keep
        self.name = f"jsonl://{self._path}"
        self._seldom = Seldom(_LOG)

    def store(self, metrics: Sequence[AIUsageMetric]) -> Sequence[Failed]:
        """Append them: all, or none and an OSError."""
        text = "".join(f"{metric.to_json()}\n" for metric in in_turns(metrics)).encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._path) as file:
            if append(file, text) >= self._rotate:
                self._rotated()
        return []

    def close(self) -> None:
        """Nothing is held between two calls."""

    def _rotated(self) -> None:
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        with self._telling():
            self._path.rename(self._path.with_name(f"{self._path.name}.{moment}"))
            old = sorted(self._path.parent.glob(f"{self._path.name}.*Z")) if self._keep else []
            for each in old[: -self._keep]:
                with self._telling():
                    each.unlink(missing_ok=True)

    @contextmanager
    def _telling(self) -> Generator[None]:
        """What fails here is told, and tried again another time: the metrics before it are
        durable, and an error would have them sent again."""
        try:
            yield
        except OSError as error:
            self._seldom.warning("%s cannot be rotated: %s", self.name, error.strerror)
