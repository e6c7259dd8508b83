"""Settings and replicas of a server, as its system tables tell them: no cluster can be had here."""

from __future__ import annotations

from typing import Any

import pytest

from nilometer.clickhouse.address import Server
from nilometer.doctor import clickhouse_rules

URL = "clickhouse://writer:p@h/nilometer"
LIMITS = {
    "readonly": 0,
    "http_max_field_value_size": 131072,
    "non_replicated_deduplication_window": 0,
}
WELL = {
    "replicas": "3",
    "shards": "1",
    "macros": ["replica", "shard"],
    "plain": "0",
    "read_only": "0",
    "delay": "0",
    "window": "10000",
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "leave room"),
        ({"readonly": 1}, "writer is read-only"),
        ({"http_max_field_value_size": 1000}, "does not fit"),
        ({"non_replicated_deduplication_window": 100}, "repeated for one that it has"),
    ],
)
def test_settings_that_hinder_are_told(changes: dict[str, int], said: str):
    verdict = clickhouse_rules.limits({**LIMITS, **changes}, Server.parse(URL))
    assert verdict.outcome == ("failed" if changes else "ok")
    assert said in verdict.found


@pytest.mark.parametrize(
    ("changes", "outcome", "said"),
    [
        ({}, "ok", "3 replicas, which keep up"),
        ({"replicas": "0"}, "failed", "knows no cluster c"),
        ({"shards": "2"}, "failed", "2 shards"),
        ({"macros": ["shard"]}, "failed", "lacks the macros"),
        ({"replicas": "2"}, "failed", "3 of 2 replicas"),
        ({"replicas": "4"}, "warning", "before all 4 replicas have it"),
        ({"plain": "4"}, "failed", "4 tables are on one host"),
        ({"read_only": "1"}, "failed", "lost Keeper"),
        ({"delay": "61"}, "warning", "61 s behind"),
        ({"window": "0"}, "failed", "stored twice"),
    ],
)
def test_what_is_wrong_with_a_cluster_is_told(changes: dict[str, Any], outcome: str, said: str):
    server = Server.parse(URL, cluster="c", insert_quorum="3")
    verdict = clickhouse_rules.cluster({**WELL, **changes}, server)
    assert (verdict.outcome, said in verdict.found) == (outcome, True), verdict


@pytest.mark.parametrize("quorum", ["", "auto", "2"])
def test_a_quorum_of_some_is_warned_of(quorum: str):
    verdict = clickhouse_rules.cluster(WELL, Server.parse(URL, cluster="c", insert_quorum=quorum))
    assert (verdict.outcome, "lead to one host" in verdict.remedy) == ("warning", True)
    alone = {**WELL, "replicas": "1"}
    for of_one in ("", "auto", "1"):
        server = Server.parse(URL, cluster="c", insert_quorum=of_one)
        assert clickhouse_rules.cluster(alone, server).outcome == "ok"
