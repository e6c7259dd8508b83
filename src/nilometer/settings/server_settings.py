"""The servers of the distributed profile: Kafka and ClickHouse."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from nilometer.settings.sizes import KIB, MIB


class ServerSettings(BaseSettings):
    """How they are reached, and what is asked of them."""

    kafka_bootstrap_servers: str | None = Field(
        None,
        validation_alias=AliasChoices(
            "NILOMETER_KAFKA_BOOTSTRAP_SERVERS", "KAFKA_BOOTSTRAP_SERVERS"
        ),
        description="Brokers of the distributed profile: host:port, more after commas. "
        "KAFKA_BOOTSTRAP_SERVERS is read too.",
    )
    kafka_topic: str = Field(
        "nilometer",
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
        description="The topic of the log; its groups begin with it.",
    )
    kafka_exceptions_topic: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
        description="The topic of what happens to exceptions; by default that of the log with "
        "`-exceptions` after it.",
    )
    kafka_partitions: int = Field(
        64, gt=0, le=1000, description="Of a topic that is created; bounds the workers, for good."
    )
    kafka_replication_factor: int = Field(3, gt=0, le=9, description="Of a topic that is created.")
    kafka_min_insync_replicas: int = Field(
        2, gt=0, le=9, description="Copies that exist of each record that was acknowledged."
    )
    kafka_allow_single_replica: bool = Field(
        False,
        description="Take a topic with fewer than two copies of a record, for trials: losing one "
        "disk then loses what was acknowledged.",
    )
    kafka_retention_hours: float = Field(
        168, gt=0, description="Of a topic that is created: how long records are kept."
    )
    kafka_max_message_bytes: int = Field(
        32 * MIB,
        ge=64 * KIB,
        le=1_000_000_000,
        description="Of a topic that is created: its largest message, and so the largest request.",
    )
    kafka_compression: str = Field(
        "lz4",
        pattern="^(none|gzip|snappy|lz4|zstd)$",
        description="What batches are compressed with: none, gzip, snappy, lz4 or zstd.",
    )
    kafka_session_timeout: float = Field(
        20, ge=6, description="Without a heartbeat for so long a worker's partitions go to others."
    )
    kafka_instance_id: str | None = Field(
        None,
        description="A name of this worker that stays over restarts: one within the session "
        "timeout then moves no partition.",
    )
    kafka_security_protocol: str = Field(
        "plaintext",
        pattern="^(plaintext|ssl|sasl_plaintext|sasl_ssl)$",
        description="plaintext, ssl, sasl_plaintext or sasl_ssl.",
    )
    kafka_sasl_mechanism: str | None = Field(
        None,
        pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$",
        description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.",
    )
    kafka_sasl_username: str | None = Field(None, description="Of SASL.")
    kafka_sasl_password: SecretStr | None = Field(None, description="Of SASL.")
    kafka_tls_ca_file: str | None = Field(None, description="Who signed the brokers' certificates.")
    kafka_tls_certificate_file: str | None = Field(None, description="Our own certificate.")
    kafka_tls_key_file: str | None = Field(None, description="Its key.")
    kafka_tls_key_password: SecretStr | None = Field(None, description="That of the key.")
    kafka_delivery_timeout: float = Field(
        10, ge=1, description="After so long without an acknowledgement capture answers 503."
    )

    clickhouse_url: SecretStr | None = Field(
        None,
        description="The ClickHouse server of the distributed profile: "
        "clickhouse://user:password@host:8123/nilometer, with ?secure=true for TLS.",
    )
    clickhouse_reader_url: SecretStr | None = Field(
        None,
        description="The same server for SQL of users: a user that may only SELECT; see "
        "deploy/clickhouse/users.sql.",
    )
    clickhouse_cluster: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$",
        description="The cluster of that server, each of whose hosts has a replica of every table.",
    )
    clickhouse_insert_quorum: str | None = Field(
        None,
        pattern=r"^(auto|[1-9][0-9]?)$",
        description="Replicas that must have an insert before it counts: a number, or auto for "
        "the majority; by default one.",
    )
    clickhouse_timeout: float = Field(
        60, ge=1, description="For how long the ClickHouse server may send nothing."
    )

    @field_validator("clickhouse_url", "clickhouse_reader_url")
    @classmethod
    def _check_clickhouse_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            parts = urlsplit(url.get_secret_value())
            if parts.scheme != "clickhouse" or not parts.hostname:
                raise ValueError("give clickhouse://user:password@host:8123/nilometer")
        return url
