"""What settings and replicas of a ClickHouse server must be like. It asks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nilometer.clickhouse.address import Server
from nilometer.doctor.finding import Verdict, failed, together, warning

# What a value bound to a statement may need (`Network.longest_value` and its quoting).
_LEAST_FIELD = 128 * 1024
_LATE_SECONDS = 60
_MACROS = 2  # shard and replica


def limits(values: Mapping[str, int], server: Server) -> Verdict:
    """Settings, by name, as they are for Nilometer's own user."""
    return together(
        list(_limits(values, server)), "The settings of the server leave room for what is sent."
    )


def cluster(found: Mapping[str, Any], server: Server) -> Verdict:
    """What the system tables of a host tell of the cluster that the settings name."""
    replicas = int(found["replicas"])
    if not replicas:
        return failed(
            f"The server knows no cluster {server.cluster}.",
            "Define it in remote_servers, or mend NILOMETER_CLICKHOUSE_CLUSTER.",
        )
    return together(
        [*_hosts(found, replicas, server.insert_quorum), *_replication(found)],
        f"The cluster {server.cluster} has {replicas} replicas, which keep up.",
    )


def _limits(values: Mapping[str, int], server: Server) -> Iterator[Verdict]:
    if values.get("readonly"):
        yield failed(
            f"The user {server.address.user} is read-only by its profile.",
            "Give it a profile without `readonly`.",
        )
    field = values.get("http_max_field_value_size", _LEAST_FIELD)
    if field < _LEAST_FIELD:
        yield failed(
            f"http_max_field_value_size is {field:,}: a batch's look-up does not fit.",
            f"Set it to {_LEAST_FIELD:,} or more, as a server has it by itself.",
        )
    if values.get("non_replicated_deduplication_window") and not server.cluster:
        yield failed(
            "non_replicated_deduplication_window is on: after a crash the server can take an "
            "insert that is repeated for one that it has.",
            "Set it to 0 in merge_tree; Nilometer keeps repetitions apart by itself.",
        )


def _hosts(found: Mapping[str, Any], replicas: int, quorum: str) -> Iterator[Verdict]:
    if int(found["shards"]) != 1:
        yield failed(
            f"The cluster has {found['shards']} shards; each host must have every table whole.",
            "Name a cluster of one shard.",
        )
    if len(found["macros"]) != _MACROS:
        yield failed(
            "The host lacks the macros {shard} and {replica}.",
            "Define both in `macros` of each host.",
        )
    if quorum.isdigit() and int(quorum) > replicas:
        yield failed(
            f"NILOMETER_CLICKHOUSE_INSERT_QUORUM is {quorum} of {replicas} replicas.",
            "Lower it: no insert ever counts.",
        )
    elif replicas > 1 and quorum != str(replicas):
        yield warning(
            f"An insert counts before all {replicas} replicas have it: a worker that is led from "
            "one host to another may not find what was stored.",
            "Let NILOMETER_CLICKHOUSE_URL lead to one host alone, or set "
            f"NILOMETER_CLICKHOUSE_INSERT_QUORUM to {replicas}.",
        )


def _replication(found: Mapping[str, Any]) -> Iterator[Verdict]:
    if int(found["plain"]):
        yield failed(
            f"{found['plain']} tables are on one host alone.",
            "They were made before NILOMETER_CLICKHOUSE_CLUSTER was set: start on an empty one.",
        )
    if int(found["read_only"]):
        yield failed(
            f"{found['read_only']} replicas are read-only: they have lost Keeper.",
            "Bring Keeper back, or see SYSTEM RESTART REPLICA.",
        )
    if int(found["delay"] or 0) > _LATE_SECONDS:
        yield warning(
            f"A replica is {found['delay']} s behind.", "See system.replication_queue of it."
        )
    if not int(found["window"] or 0):
        yield failed(
            "replicated_deduplication_window is 0: an insert that is repeated is stored twice.",
            "Leave it at what a server has by itself.",
        )
