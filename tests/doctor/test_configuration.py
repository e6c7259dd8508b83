"""Settings are looked at without asking any server."""

from __future__ import annotations

import pytest

from nilometer.doctor.configuration import Configuration
from nilometer.doctor.finding import Verdict
from nilometer.settings import Settings

STRONG = "gzPv8Qy1ZkWm4Xt0"
WHOLE = {
    "profile": "distributed",
    "kafka_bootstrap_servers": "localhost:9092",
    "database_url": f"postgresql://nilometer:{STRONG}@localhost/nilometer",
    "clickhouse_url": f"clickhouse://nilometer:{STRONG}@localhost/nilometer",
    "blobs_url": "s3://bucket",
}


def looked_at(what: str, **settings: object) -> Verdict:
    return getattr(Configuration(Settings(**{**WHOLE, **settings})), what)()  # type: ignore[arg-type]


def told(verdict: Verdict) -> tuple[str, str]:
    return verdict.outcome.value, verdict.found


def test_a_whole_configuration_is_well():
    for what in ("whole", "secrets", "encryption", "tls"):
        assert looked_at(what).outcome == "ok"
    assert Configuration(Settings()).whole().outcome == "ok"


@pytest.mark.parametrize(
    "password", ["", "q7ZkpW2x", "minioadmin", "REPLACE-ME-1", "postgres", "aaaaaaaaaaaaaaaa"]
)
def test_a_password_that_everybody_knows_is_told_and_not_repeated(password):
    url = f"postgresql://nilometer:{password}@localhost/nilometer"
    outcome, found = told(looked_at("secrets", database_url=url))
    assert outcome == "warning"
    assert "NILOMETER_DATABASE_URL" in found
    assert not password or password not in found


def test_every_secret_is_looked_at_but_those_of_servers_that_the_role_has_no_use_for(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "minioadmin")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "minioadmin")
    weak = {
        "bootstrap_personal_key": "changemechangeme"[:16].replace("changeme", "aaaaaaaa"),
        "kafka_sasl_password": "kafka",
        "clickhouse_url": "clickhouse://nilometer:nilometer@localhost/nilometer",
        "clickhouse_reader_url": "clickhouse://reader@localhost/nilometer",
    }
    _, found = told(looked_at("secrets", **weak))
    for name in (
        *("BOOTSTRAP_PERSONAL_KEY", "KAFKA_SASL_PASSWORD", "CLICKHOUSE_URL"),
        *("CLICKHOUSE_READER_URL", "AWS_SECRET_ACCESS_KEY"),
    ):
        assert name in found
    _, found = told(looked_at("secrets", role="capture", **weak))
    assert "CLICKHOUSE" not in found


def test_a_client_certificate_takes_a_passwords_place():
    url = "postgresql://nilometer@localhost/nilometer?sslcert=/c&sslkey=/k"
    assert looked_at("secrets", database_url=url).outcome == "ok"


def test_what_crosses_a_network_readable_is_told(monkeypatch):
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    far = {
        "kafka_bootstrap_servers": "localhost:9092,broker.example:9092",
        "database_url": f"postgresql://u:{STRONG}@db.example/d",
        "clickhouse_url": f"clickhouse://u:{STRONG}@ch.example:8123/nilometer",
        "s3_endpoint": "http://s3.example:9000",
    }
    outcome, found = told(looked_at("encryption", **far))
    assert outcome == "warning"
    assert "Kafka, PostgreSQL, ClickHouse and S3" in found
    assert STRONG not in found
    closed = {
        "kafka_bootstrap_servers": "broker.example:9093",
        "kafka_security_protocol": "sasl_ssl",
        "database_url": f"postgresql://u:{STRONG}@db.example/d?sslmode=verify-full",
        "clickhouse_url": f"clickhouse://u:{STRONG}@ch.example/nilometer?secure=true",
        "s3_endpoint": "https://s3.example",
    }
    assert looked_at("encryption", **closed).outcome == "ok"
    assert "ClickHouse" not in looked_at("encryption", role="capture", **far).found


def test_limits_that_no_request_meets_and_failpoints_are_told():
    outcome, found = told(looked_at("whole", max_inflight_bytes=30_000_000))
    assert outcome == "warning"
    assert "429" in found
    assert "on purpose" in looked_at("whole", failpoints="before_append=kill@1").found


def test_a_file_of_prices_is_read(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text("")
    assert "0 prices" in looked_at("prices", prices_file=file).found
