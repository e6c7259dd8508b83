"""The arithmetic of docs/scale.md: from what an event costs to what a rate of them needs.

Pure functions of measured figures and of assumptions that are named. Nothing here was run on more
than the machine that the figures are from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

DAY = 86_400
MB = 1_000_000
TB = 1_000_000 * MB


@dataclass(frozen=True)
class Costs:
    """What one event costs, as measured: microseconds of a core, bytes."""

    capture_us: float
    capture_alone_us: float
    worker_us: float
    worker_alone_us: float
    store_us: float
    log_bytes: float
    wire_bytes: float
    store_bytes: float
    capture_mb: int
    worker_mb: int
    log_seconds: float

    @classmethod
    def of(cls, results: dict[str, Any]) -> Costs:
        """From the bench's results: events that come 100 in a request, and alone."""
        http = {each["shape"]: each for each in results["kafka"]["http"] if each["processes"] == 1}
        cleared = {
            each["events_per_record"]: each
            for each in results["worker"]["backlog"]
            if each["workers"] == 1
        }
        batched, alone = http["100 events"], http["one event"]
        return cls(
            capture_us=batched["processor_us_per_event"],
            capture_alone_us=alone["processor_us_per_event"],
            worker_us=cleared[100]["worker_processor_us_per_event"],
            worker_alone_us=cleared[1]["worker_processor_us_per_event"],
            store_us=cleared[100]["store_processor_us_per_event"],
            log_bytes=cleared[100]["log_bytes_per_event"],
            wire_bytes=batched["record_bytes"] / 100,
            store_bytes=cleared[100]["store_bytes_per_event"],
            capture_mb=max(each["peak_mb"] for each in results["kafka"]["http"]),
            worker_mb=max(each["peak_mb"] for each in results["worker"]["backlog"]),
            log_seconds=results["kafka"]["log"]["p99_ms"] / 1000,
        )


@dataclass(frozen=True)
class Assumptions:
    """What was not measured: chosen, or a server's usual figure."""

    busy: float = 0.5
    """Share of a core that may be used at the mean, so that a peak of twice the mean fits."""
    copies_of_log: int = 3
    log_days: float = 7
    broker_write: float = 100 * MB
    """Bytes a second that one broker writes, copies included."""
    partition_write: float = 5 * MB
    least_partitions: int = 64
    most_partitions: int = 1000
    store_copies: int = 2
    store_days: int = 30
    store_cores: int = 32
    """Of one host. All tables are on every host of a cluster, so this bounds a cell."""
    blob_share: float = 0.01
    """Events with blobs of their own: one object each."""
    pack_share: float = 0.05
    """Events with values of more than 16 KiB, packed."""
    pack_bytes: float = 40_000
    batch_events: int = 5000
    projects_in_batch: int = 20
    blob_bytes: float = 16_000
    catch_up: float = 2
    """How much faster than the mean workers must be to clear a backlog."""


@dataclass(frozen=True)
class Prices:
    """Dollars. Examples, to be replaced by your own."""

    core_hour: float = 0.045
    disk_gb_month: float = 0.08
    object_gb_month: float = 0.023
    thousand_puts: float = 0.005


@dataclass(frozen=True)
class Needs:
    """What one rate of events needs, all cells together."""

    rate: int
    cells: int
    capture: int
    workers: int
    partitions: int
    brokers: int
    store_hosts: int
    store_cores: int
    log_disk: float
    store_disk: float
    objects: float
    puts: float
    network_in: float
    network_log: float
    network_store: float
    cores: int
    dollars: float


def needs(
    rate: int,
    costs: Costs,
    given: Assumptions | None = None,
    prices: Prices | None = None,
) -> Needs:
    """For `rate` events of 2 kB a second, 100 in a request."""
    given, prices = given or Assumptions(), prices or Prices()
    # Inserts are made on one host and copied to the others, which then merge as it does.
    store_cores = _cores(rate * costs.store_us, given.busy)
    cells = math.ceil(store_cores / given.store_cores)
    capture = max(2, _cores(rate * costs.capture_us, given.busy))
    workers = max(2, math.ceil(rate * costs.worker_us * given.catch_up / 1e6))
    log = rate * costs.log_bytes
    brokers = max(3 * cells, math.ceil(log * given.copies_of_log / given.broker_write))
    puts = rate * (given.blob_share + given.projects_in_batch / given.batch_events)
    held = given.store_days * DAY * rate
    objects = held * (given.blob_share * given.blob_bytes + given.pack_share * given.pack_bytes)
    log_disk = log * given.log_days * DAY * given.copies_of_log
    store_disk = held * costs.store_bytes * given.store_copies
    cores = capture + workers + brokers * 4 + store_cores * given.store_copies + 2 * cells
    return Needs(
        rate=rate,
        cells=cells,
        capture=capture,
        workers=workers,
        partitions=_partitions(log / cells, math.ceil(workers / cells), given),
        brokers=brokers,
        store_hosts=cells * given.store_copies,
        store_cores=store_cores * given.store_copies,
        log_disk=log_disk,
        store_disk=store_disk,
        objects=objects,
        puts=puts,
        network_in=rate * costs.wire_bytes,
        network_log=log * (given.copies_of_log + 1),
        network_store=rate * costs.wire_bytes * given.store_copies,
        cores=cores,
        dollars=(
            cores * 730 * prices.core_hour
            + (log_disk + store_disk) / 1e9 * prices.disk_gb_month
            + objects / 1e9 * prices.object_gb_month
            + puts * 30 * DAY / 1000 * prices.thousand_puts
        ),
    )


def _cores(microseconds: float, busy: float) -> int:
    return math.ceil(microseconds / 1e6 / busy)


def _partitions(log: float, workers: int, given: Assumptions) -> int:
    """Of one cell: enough for twice its workers, and for its bytes; a multiple of 64."""
    wanted = max(2 * workers, math.ceil(log / given.partition_write), given.least_partitions)
    return min(given.most_partitions, math.ceil(wanted / 64) * 64)
