"""Newer prices from the network, for who asked for them (`NILOMETER_PRICES_REFRESH`)."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime

from nilometer.pricing import book

_LOG = logging.getLogger(__name__)


def fetch(url: str | None = None) -> book.Book:
    """The edition that the book's authors publish now, or that of a mirror.

    Blocks, at most about 15 seconds. Its version has the package's, the date, and the content's
    hash, so that two rows priced by different editions never name the same. Raises whatever the
    network and the content give rise to.
    """
    from genai_prices import UpdatePrices

    source = UpdatePrices(url=url) if url else UpdatePrices()
    snapshot = source.fetch()
    if snapshot is None or not snapshot.providers:
        raise ValueError("the published prices are empty")
    digest = hashlib.sha256(repr(snapshot.providers).encode()).hexdigest()[:12]
    day = datetime.now(UTC).date().isoformat()
    return book.Book(snapshot.providers, f"{book.bundled().version} refreshed {day} {digest}")


class Refreshing:
    """A thread that fetches prices every `interval` seconds and puts them to use.

    A fetch that fails leaves the prices as they are and is told in the log; the next is tried at
    its time.
    """

    def __init__(self, interval: float, url: str | None = None) -> None:
        self._interval = interval
        self._url = url
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prices", daemon=True)

    def start(self) -> None:
        """Begin, with a fetch at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits for a fetch under way."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                edition = fetch(self._url)
            except Exception as error:  # noqa: BLE001 - whatever it is, the old prices stay
                _LOG.warning("prices were not refreshed: %s", type(error).__name__)
            else:
                book.use(edition)
                _LOG.info("prices are now %s", edition.version)
            self._stopped.wait(self._interval)


@contextmanager
def refreshing(interval: float, url: str | None = None) -> Generator[None]:
    """Refresh prices for the length of the block."""
    thread = Refreshing(interval, url)
    thread.start()
    try:
        yield
    finally:
        thread.stop()
