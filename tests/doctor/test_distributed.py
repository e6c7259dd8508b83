"""The distributed profile on real servers: all well, and each thing broken."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from nilometer.blobs.bucket import PUBLIC_ACCESS_BLOCK, Bucket
from nilometer.blobs.setup import set_up
from nilometer.doctor import clocks
from nilometer.doctor.kafka import Kafka
from nilometer.log.kafka import Cluster, TopicFacts
from nilometer.settings import Settings
from tests.clickhouse_server.running import ClickHouseServer
from tests.database import servers
from tests.database.reaching import url_of
from tests.doctor.deployments import examined, outcomes, silent_server
from tests.running import wait_until
from tests.services import KafkaService, PostgresService, S3Service

Deployment = dict[str, Any]


def test_where_all_is_well_nothing_fails_and_nothing_is_left(deployment: Deployment, s3: S3Service):
    found = examined(**deployment)
    warned = {name: outcome for name, outcome in outcomes(found).items() if outcome != "ok"}
    # What the tests' servers have less of than production: strong passwords, copies, rules.
    assert warned == dict.fromkeys(
        ("settings.secrets", "kafka.topic", "kafka.exceptions", "blobs.lifecycle"), "warning"
    )
    bucket = deployment["blobs_url"].removeprefix("s3://")
    assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket)


def test_capture_asks_nothing_of_the_store(deployment: Deployment):
    with silent_server() as nowhere:
        url = f"clickhouse://u:p@{nowhere}/nilometer"
        found = examined(**{**deployment, "role": "capture", "clickhouse_url": url})
    assert not [name for name in found if name.startswith("clickhouse")]
    assert "failed" not in outcomes(found).values()


def test_the_api_looks_without_writing(deployment: Deployment, s3: S3Service):
    found = examined("blobs", **{**deployment, "role": "api"})
    assert found["blobs.probe"].found == "Objects can be read."


def test_servers_that_never_answer_are_given_up_together(deployment: Deployment):
    with silent_server() as nowhere:
        started = time.monotonic()
        found = examined(
            seconds=2,
            **{
                **deployment,
                "database_url": f"postgresql://u:hidden-words@{nowhere}/d",
                "kafka_bootstrap_servers": nowhere,
                "clickhouse_url": f"clickhouse://u:hidden-words@{nowhere}/nilometer",
                "s3_endpoint": f"http://{nowhere}",
            },
        )
        taken = time.monotonic() - started
    assert taken < 8, found
    first = ("database.server", "kafka.cluster", "clickhouse.server", "blobs.storage")
    for name in (*first, "blobs.clock"):
        assert found[name].outcome == "failed", found[name]
        assert found[name].remedy
    for name, each in found.items():
        part = name.partition(".")[0]
        if part in ("database", "kafka", "clickhouse") and name not in first:
            assert (each.outcome, each.because) == (
                "skipped",
                next(one for one in first if one.startswith(part)),
            )


def test_servers_that_the_settings_do_not_name_are_skipped_because_of_them(deployment: Deployment):
    found = examined(profile="distributed")
    assert found["settings"].outcome == "failed"
    for name in ("database.server", "kafka.lag", "clickhouse.user", "blobs.storage"):
        assert (found[name].outcome, found[name].because) == ("skipped", "settings")
    found = examined(**{**deployment, "database_url": "not a url"})
    assert "database URL" in found["settings"].found
    assert found["database.server"].because == "settings"
    assert found["kafka.cluster"].outcome == "ok"


@pytest.mark.parametrize("server", ["PostgreSQL", "ClickHouse", "S3"])
@pytest.mark.parametrize(("minutes", "outcome"), [(1, "warning"), (-20, "failed")])
def test_a_wrong_clock_is_told(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, server, minutes, outcome
):
    name = {"PostgreSQL": "database", "ClickHouse": "clickhouse", "S3": "blobs"}[server]
    monkeypatch.setattr(clocks, "local", lambda: time.time() - minutes * 60)
    needed = {"database": "database.server", "clickhouse": "clickhouse.server", "blobs": "none"}
    found = examined(f"{name}.clock", needed[name], **deployment)[f"{name}.clock"]
    assert found.outcome == outcome
    assert server in found.found
    assert ("ahead of" if minutes > 0 else "behind") in found.found


# PostgreSQL


def test_a_superuser_is_not_fenced(deployment: Deployment, postgres: PostgresService):
    name = deployment["database_url"].rpartition("/")[2]
    found = examined("database", **{**deployment, "database_url": postgres.url_of(name)})
    assert found["database.role"].outcome == "warning"
    assert "NOSUPERUSER" in found["database.role"].remedy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("nilometer_tests:nilometer_tests@", "nilometer_tests:hidden-words@"), "the password"),
        (("/test_", "/none_"), "no such database"),
        (("localhost:", "localhost:1"), ""),
    ],
    ids=["password", "database", "port"],
)
def test_why_the_database_cannot_be_reached_is_told(deployment: Deployment, change, said):
    before, after = change
    url = deployment["database_url"].replace(before, after)
    if not said:
        url = url.replace(url.rpartition(":")[2].partition("/")[0], "1")
        said = "nothing listens there"
    found = examined("database", **{**deployment, "database_url": url})
    assert said in found["database.server"].found, found["database.server"]
    assert found["database.server"].remedy
    assert found["database.clock"].because == "database.server"
    assert "hidden-words" not in str(found)


def test_migrations_that_are_missing_are_told_and_not_run(
    deployment: Deployment, postgres: PostgresService
):
    with servers.empty(postgres) as database:
        settings = {**deployment, "database_url": url_of(database)}
        found = examined("database", **settings)["database.migrations"]
        assert (found.outcome, "no tables yet" in found.found) == ("warning", True)
        again = examined("database", **settings)["database.migrations"]
        assert "no tables yet" in again.found
        assert "migrate-data" in again.remedy
    with servers.migrated(postgres) as database, psycopg.connect(url_of(database)) as connection:
        settings = {**deployment, "database_url": url_of(database)}
        for revision, outcome, said in (
            ("0003", "warning", "revision 0003"),
            ("9999", "ok", "newer release"),
        ):
            connection.execute("UPDATE alembic_version SET version_num = %s", [revision])
            connection.commit()
            found = examined("database", **settings)["database.migrations"]
            assert (found.outcome, said in found.found) == (outcome, True), found
            assert "migrate-data" not in found.remedy


def test_a_fence_that_was_taken_down_and_rights_that_lack_are_told(
    deployment: Deployment, postgres: PostgresService
):
    with servers.migrated(postgres) as database:
        settings = {**deployment, "database_url": url_of(database)}
        with psycopg.connect(url_of(database), autocommit=True) as connection:
            connection.execute("ALTER TABLE projects DISABLE ROW LEVEL SECURITY")
            found = examined("database", **settings)["database.role"]
            assert (found.outcome, "switched off on 1" in found.found) == ("failed", True)
            connection.execute("ALTER TABLE projects ENABLE ROW LEVEL SECURITY")
            connection.execute("REVOKE DELETE ON api_keys FROM CURRENT_USER")
            found = examined("database", **settings)["database.role"]
            assert (found.outcome, "lacks rights" in found.found) == ("failed", True)
            connection.execute(
                f'ALTER DATABASE "{database.url.database}" SET default_transaction_read_only = on'
            )
            found = examined("database", **settings)["database.role"]
            assert "takes no writes" in found.found


def test_too_few_connections_are_told(deployment: Deployment, postgres: PostgresService):
    with servers.empty(postgres) as database:
        name = database.url.database
        with psycopg.connect(postgres.url, autocommit=True) as operator:
            operator.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 10')
        found = examined("database", **{**deployment, "database_url": url_of(database)})
    assert found["database.connections"].outcome == "failed"
    assert "allows 10 connections" in found["database.connections"].found


# Kafka


def made_topic(kafka: KafkaService, partitions: int = 1, **config: str) -> str:
    name = kafka.new_topic()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(90)
    return name


def test_a_cluster_of_one_broker_is_refused_unless_that_is_admitted(deployment: Deployment):
    strict = {**deployment, "kafka_allow_single_replica": False}
    found = examined("kafka", **strict)
    assert found["kafka.topic"].outcome == "failed"
    assert "only one broker has" in found["kafka.topic"].found
    assert found["kafka.limits"].because == "kafka.topic"
    missing = examined("kafka", **{**strict, "kafka_topic": "none"})["kafka.topic"]
    assert (missing.outcome, "1 of the 3 brokers" in missing.found) == ("failed", True)
    assert examined("kafka", **deployment)["kafka.topic"].outcome == "warning"


def test_a_topic_that_is_not_there_is_told_and_not_made(
    deployment: Deployment, kafka: KafkaService
):
    settings = {**deployment, "kafka_topic": kafka.new_topic()}
    for _ in range(2):
        found = examined("kafka", **settings)
        assert (found["kafka.topic"].outcome, found["kafka.lag"].because) == (
            "warning",
            "kafka.topic",
        )
        assert "(partitions: 4, copies of each record: 1)" in found["kafka.topic"].found
        assert "migrate-data" in found["kafka.topic"].remedy


def test_limits_of_a_topic_are_told(deployment: Deployment, kafka: KafkaService):
    for config, said in (
        ({"max.message.bytes": "1000000"}, "larger ones are answered 413"),
        ({"retention.bytes": "1000000"}, "1,000,000 bytes a partition"),
        ({"retention.ms": "3600000"}, "deleted after 1.0 hours"),
        ({"message.timestamp.type": "CreateTime"}, "a wrong clock gets them deleted"),
        ({}, "At most 1 workers"),
    ):
        well = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "33554432"}
        topic = made_topic(kafka, **{**well, **config})
        found = examined("kafka", **{**deployment, "kafka_topic": topic})["kafka.limits"]
        assert (found.outcome, said in found.found) == ("warning", True), found
        assert "--alter" not in found.remedy  # more partitions move keys while records wait
    compacted = made_topic(kafka, **{"cleanup.policy": "compact"})
    found = examined("kafka", **{**deployment, "kafka_topic": compacted})["kafka.topic"]
    assert (found.outcome, "compacted" in found.found) == ("failed", True)


@pytest.mark.parametrize(
    ("changes", "outcome", "said"),
    [
        ({}, "ok", "all its replicas in sync"),
        ({"leaderless": 2, "in_sync": 0}, "failed", "2 of 8 partitions have no leader"),
        ({"in_sync": 1}, "failed", "it acknowledges nothing"),
        ({"in_sync": 2}, "warning", "2 of 3 replicas in sync"),
        ({"min_insync_replicas": 3}, "warning", "stops every acknowledgement"),
    ],
)
def test_replicas_that_are_away_are_told(changes: dict[str, int], outcome: str, said: str):
    """Facts of a real cluster that loses brokers are read by tests/log/test_kafka_replicas.py."""
    well = TopicFacts("t", 8, 3, 3, 3, 0, 2, 1_000_000, None, "delete", "LogAppendTime", False)
    kafka = Kafka(Settings(), 5)
    kafka._facts = replace(well, **changes)
    verdict = kafka.replicas()
    assert (verdict.outcome, said in verdict.found) == (outcome, True), verdict


def test_a_cluster_that_does_not_tell_rights_is_not_taken_for_one_that_gives_none(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Cluster, "operations", lambda *_: frozenset())
    found = examined("kafka", **deployment)["kafka.permissions"]
    assert (found.outcome, "does not tell" in found.found) == ("ok", True)


def test_records_that_nobody_reads_are_told(deployment: Deployment, kafka: KafkaService):
    topic = made_topic(kafka, 4)
    settings = {**deployment, "kafka_topic": topic}
    found = examined("kafka", **settings)["kafka.lag"]
    assert (found.outcome, "0 of 0 records behind" in found.found) == ("ok", True), found
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(10):
        producer.produce(topic, b"x", partition=number % 4)
    assert producer.flush(30) == 0
    found = examined("kafka", **settings)["kafka.lag"]
    assert (found.outcome, "10 of 10 records behind; 0 workers" in found.found) == ("warning", True)


# ClickHouse


def test_each_user_of_clickhouse_must_be_what_it_is_for(
    deployment: Deployment, clickhouse: ClickHouseServer
):
    def told(name: str, **urls: str) -> tuple[str, str]:
        found = examined("clickhouse", **{**deployment, **urls})[name]
        return found.outcome.value, found.found

    reads = clickhouse.url("reader", "re@der")
    writes = clickhouse.url("writer", "wr1ter's")
    wrong = clickhouse.url("default", "hidden-words")
    for name, urls, outcome, said in (
        ("server", {"clickhouse_url": wrong}, "failed", "refuses the user default"),
        ("user", {"clickhouse_url": writes}, "ok", "may read and write"),
        ("user", {"clickhouse_url": reads}, "failed", "may not insert into nilometer.events"),
        ("reader", {"clickhouse_reader_url": wrong}, "failed", "refuses the user default"),
        ("reader", {"clickhouse_reader_url": writes}, "failed", "is to read alone"),
        ("reader", {"clickhouse_reader_url": None}, "warning", "Nilometer's own user"),
        ("policies", {"clickhouse_reader_url": reads}, "failed", "every project's rows"),
    ):
        found = told(f"clickhouse.{name}", **urls)
        assert (found[0], said in found[1]) == (outcome, True), (name, found)
        assert "hidden-words" not in found[1]


def test_a_cluster_that_the_server_does_not_know_is_told(deployment: Deployment):
    found = examined("clickhouse", **{**deployment, "clickhouse_cluster": "nowhere"})
    assert found["clickhouse.cluster"].outcome == "failed"
    assert "knows no cluster nowhere" in found["clickhouse.cluster"].found


def test_a_server_without_tables_is_told_and_gets_none(
    deployment: Deployment, tmp_path_factory: pytest.TempPathFactory
):
    empty = ClickHouseServer(tmp_path_factory.mktemp("empty")).start()
    try:
        urls = {
            "clickhouse_url": empty.url(),
            "clickhouse_reader_url": empty.url("fenced", "fenc3d"),
        }
        for _ in range(2):
            found = examined("clickhouse", **{**deployment, **urls})
            assert outcomes(found)["clickhouse.migrations"] == "warning"
            assert "no tables yet" in found["clickhouse.migrations"].found
            assert "migrate-data" in found["clickhouse.migrations"].remedy
            for name in ("user", "policies"):
                assert found[f"clickhouse.{name}"].because == "clickhouse.migrations"
    finally:
        empty.stop()
    found = examined("clickhouse", **{**deployment, **urls})["clickhouse.server"]
    assert (found.outcome, "connection refused" in found.found) == ("failed", True), found


# S3


def test_what_s3_objects_to_is_told_with_its_remedy(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
):
    missing = examined("blobs", **{**deployment, "blobs_url": "s3://no-such-bucket-at-all"})
    assert "NoSuchBucket" in missing["blobs.storage"].found
    assert "--create-bucket" in missing["blobs.storage"].remedy
    assert missing["blobs.probe"].because == "blobs.storage"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-words")
    wrong = examined("blobs", **deployment)
    assert wrong["blobs.storage"].remedy == "Mend AWS_SECRET_ACCESS_KEY."
    assert "hidden-words" not in str(wrong)


def test_who_may_only_put_can_capture_and_no_more(
    deployment: Deployment, s3: S3Service, monkeypatch: pytest.MonkeyPatch
):
    bucket = deployment["blobs_url"].removeprefix("s3://")
    identities, name = s3.client("iam"), f"doctor-{uuid.uuid4().hex}"
    identities.create_user(UserName=name)
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"},
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"},
        ],
    }
    identities.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
    key = identities.create_access_key(UserName=name)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])

    def capturing() -> Any:
        return examined("blobs", **{**deployment, "role": "capture"})["blobs.probe"]

    found = wait_until(
        lambda: (each := capturing()).outcome == "ok" and each, what="the new user's policy"
    )
    assert "need not" in found.found
    working = examined("blobs", **{**deployment, "role": "worker"})["blobs.probe"]
    assert (working.outcome, "s3:GetObject" in working.remedy) == ("failed", True)
    unseen = examined("blobs", **{**deployment, "role": "worker"})["blobs.lifecycle"]
    assert (unseen.outcome, "s3:GetLifecycleConfiguration" in unseen.found) == ("warning", True)
    for each in s3.client().list_objects_v2(Bucket=bucket)["Contents"]:
        assert each["Key"].startswith("llma/9")
        s3.client().delete_object(Bucket=bucket, Key=each["Key"])


def test_missing_lifecycle_rules_are_told_and_present_ones_seen(
    deployment: Deployment, s3_bucket: str
):
    settings = {**deployment, "blobs_url": f"s3://{s3_bucket}"}
    found = examined("blobs", **settings)["blobs.lifecycle"]
    assert (found.outcome, "nilometer blobs setup" in found.remedy) == ("warning", True)
    list(set_up(Settings(**settings)))
    assert examined("blobs", **settings)["blobs.lifecycle"].outcome == "ok"


@pytest.mark.parametrize(("missing", "outcome"), [((), "ok"), (("IgnorePublicAcls",), "warning")])
def test_a_bucket_that_could_be_opened_to_the_public_is_told(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, missing, outcome
):
    """The tests' S3 server has no such block; what another answers is read by tests/blobs."""
    told = {name: name not in missing for name in PUBLIC_ACCESS_BLOCK}
    monkeypatch.setattr(Bucket, "public_access_block", lambda _: told)
    found = examined("blobs", **deployment)["blobs.public_access"]
    assert (found.outcome, all(each in found.found for each in missing)) == (outcome, True)
