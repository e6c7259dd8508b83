"""Every setting, once. Environment variables `NILOMETER_*`, or the file that
`NILOMETER_CONFIG_FILE` names (TOML, same names in lower case without the prefix).
The environment wins over the file."""

from __future__ import annotations

import os
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from nilometer.errors import ConfigurationError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class Profile(StrEnum):
    """Everything in one process and one directory, or on servers that any number share."""

    EMBEDDED = "embedded"
    DISTRIBUTED = "distributed"


class Role(StrEnum):
    """What a process of the distributed profile does: all of it, or one part that scales alone."""

    ALL = "all"
    CAPTURE = "capture"
    WORKER = "worker"
    API = "api"


CAPTURES = frozenset({Role.ALL, Role.CAPTURE})
WORKS = frozenset({Role.ALL, Role.WORKER})
READS = frozenset({Role.ALL, Role.API})


def read_weights(text: str) -> dict[int, int]:
    """The weight of each project that is named, `7=4, 12=2`. Raises ValueError."""
    weights: dict[int, int] = {}
    for each in filter(None, (part.strip() for part in text.split(","))):
        project, _, weight = each.partition("=")
        if not (project.strip().isdecimal() and weight.strip().isdecimal()):
            raise ValueError("give projects and their weights such as 7=4, with commas between")
        weights[int(project)] = int(weight)
    if not all(1 <= weight <= 1000 for weight in weights.values()):
        raise ValueError("a weight is from 1 to 1000")
    return weights


class Settings(BaseSettings):
    """The settings in effect. Sizes are bytes, durations are seconds unless the name says else."""

    model_config = SettingsConfigDict(
        env_prefix="NILOMETER_", extra="forbid", frozen=True, populate_by_name=True
    )

    # profile
    profile: Profile = Field(
        Profile.EMBEDDED,
        description="`embedded`: one process, one data directory. `distributed`: Kafka, "
        "ClickHouse, PostgreSQL and a shared blob storage.",
    )
    role: Role = Field(
        Role.ALL,
        description="What this process does, in the distributed profile: `all`, `capture`, "
        "`worker` or `api`.",
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("NILOMETER_DATABASE_URL", "DATABASE_URL"),
        description="The PostgreSQL of the distributed profile: "
        "postgresql://user:password@host:5432/database. DATABASE_URL is read too.",
    )

    # serve
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port of everything over HTTP.")
    capture_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="A second port, of capture and the probes alone, to expose apart from the API.",
    )
    otlp_grpc_port: int = Field(
        4317, ge=0, le=65535, description="Port of OTLP over gRPC; 0 turns it off."
    )
    data_dir: Path = Field(
        Path("nilometer-data"), description="Where the embedded profile keeps everything."
    )
    bootstrap_personal_key: SecretStr | None = Field(
        None,
        description="The first personal key, with every scope, for automation: 16 to 64 printable "
        "ASCII characters. When set, the first start prints no key.",
    )
    log_level: str = Field(
        "info",
        pattern="^(debug|info|warning|error)$",
        description="The least that is logged: debug, info, warning or error.",
    )
    shutdown_grace: float = Field(
        30, gt=0, description="How long a stop waits for requests in flight."
    )
    tracing: str = Field(
        "off",
        pattern="^(off|otlp)$",
        description="`otlp` sends spans of the work on exceptions over OTLP/HTTP, to where "
        "OpenTelemetry's own variables say; needs the extra `otel`. See docs/workers.md.",
    )
    failpoints: str = Field(
        "",
        description="For fault tests only: `name=action` pairs (see nilometer.failpoints).",
    )
    key_grace: float = Field(
        600, ge=0, description="How long known keys go on while the database is away."
    )

    # capture
    max_event_part_bytes: int = Field(32 * KIB, gt=0, description="The `event` part alone.")
    max_event_and_properties_bytes: int = Field(
        960 * KIB, gt=0, description="The `event` and `event.properties` parts together."
    )
    max_parts_bytes: int = Field(25 * MIB, gt=0, description="All parts of a request together.")
    max_parts: int = Field(256, gt=1, description="Parts of one multipart request.")
    max_batch_wire_bytes: int = Field(
        20 * MIB, gt=0, description="The body of a JSON batch, as it is sent."
    )
    max_batch_bytes: int = Field(25 * MIB, gt=0, description="The same, decompressed.")
    max_batch_event_bytes: int = Field(8 * MIB, gt=0, description="One event of a JSON batch.")
    max_batch_events: int = Field(10_000, gt=0, description="Events of one JSON batch.")
    max_otlp_bytes: int = Field(
        20 * MIB, gt=0, description="The body of an OTLP request, as sent and decompressed."
    )
    max_otlp_grpc_bytes: int = Field(
        4 * MIB, gt=0, description="A message of OTLP over gRPC, as sent and decompressed."
    )
    max_otlp_spans: int = Field(10_000, gt=0, description="Spans of one OTLP request.")
    max_otlp_span_bytes: int = Field(
        4 * MIB, gt=0, description="One span; a larger one is rejected, the others are kept."
    )
    blob_parts: bool = Field(True, description="Accept blob parts; off, they are unknown fields.")
    strict_schema: bool = Field(False, description="Refuse properties that no schema knows.")
    max_inflight_bytes: int = Field(
        256 * MIB, gt=0, description="Request bytes held in memory at once, all projects together."
    )
    project_inflight_share: float = Field(
        0.5, gt=0, le=1, description="The share of it that one project may take."
    )
    max_connections: int = Field(2048, gt=0, description="Open connections at once.")
    header_timeout: float = Field(10, gt=0, description="For a request's headers to arrive.")
    body_idle_timeout: float = Field(15, gt=0, description="Between two chunks of a body.")
    body_timeout: float = Field(300, gt=0, description="For a whole body.")
    trusted_proxies: int = Field(
        0,
        ge=0,
        description="Proxies in front whose X-Forwarded-For is believed; 0 uses the peer.",
    )

    # blobs
    blobs_url: str | None = Field(
        None,
        description="file:///directory or s3://bucket; by default `blobs` in the data directory.",
    )
    blobs_bucket: str = Field(
        "nilometer",
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="The bucket name in the URLs of file:// blobs.",
    )
    blobs_timeout: float = Field(
        30,
        ge=1,
        description="How long the blob storage may take over one put, tries included, before "
        "capture answers 503.",
    )
    s3_endpoint: str | None = Field(None, description="An S3 server other than Amazon's.")
    s3_path_style: bool = Field(
        True, description="Name the bucket in the path of S3 requests; off, in the host name."
    )
    s3_encryption: str | None = Field(
        None,
        pattern="^(AES256|aws:kms|aws:kms:dsse)$",
        description="Server-side encryption that every S3 put asks for: AES256, aws:kms or "
        "aws:kms:dsse; by default the bucket's own.",
    )
    s3_kms_key_id: str | None = Field(
        None, description="The KMS key of that encryption, by id or ARN; by default the account's."
    )
    retention_days: int = Field(30, gt=0, le=36500, description="For projects that set none.")
    sweep_interval: float = Field(
        3600, gt=0, description="Between two searches for expired and orphaned blobs."
    )
    orphan_grace: float = Field(
        24 * 3600, gt=0, description="Age at which a blob that no event names is deleted."
    )
    max_blob_read_bytes: int = Field(
        256 * MIB, gt=0, description="What a read decompresses one blob to, at most."
    )

    pack_above_bytes: int = Field(
        16 * 1024,
        ge=0,
        description="A value inside an event that is larger is kept beside it; 0 keeps none.",
    )

    # log
    log_segment_bytes: int = Field(
        64 * MIB, gt=0, description="Size at which the log goes on in a new file."
    )
    log_max_bytes: int = Field(20 * GIB, gt=0, description="At this size capture answers 503.")
    log_keep_hours: float = Field(24, ge=0, description="For segments that every group has read.")
    log_rewind_seconds: float = Field(
        3600, ge=0, description="How far the pipeline reads again after the machine went down."
    )
    disk_reserve: int = Field(
        64 * MIB, ge=0, description="Free disk below which capture answers 503."
    )

    # pipeline
    pipeline_batch_records: int = Field(
        2000, gt=0, description="Records written to the store at once, at most."
    )
    pipeline_batch_bytes: int = Field(
        16 * MIB, gt=0, description="Bytes of records written to the store at once, at most."
    )
    pipeline_batch_events: int = Field(
        5000, gt=0, description="Events in those records at which a batch is full."
    )
    pipeline_linger: float = Field(
        0.2, ge=0, description="How long a batch waits for more records before it is written."
    )
    dead_letter_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="The share of recent events that may be dead-lettered before the pipeline "
        "stops and says so.",
    )
    dead_letter_window: int = Field(
        200, gt=0, description="Recent events over which that share is taken."
    )

    # kafka
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
        le=GIB,
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

    # clickhouse
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

    # prices
    prices_file: Path | None = Field(
        None, description="Own prices for all projects, TOML or JSON; see docs/prices.md."
    )
    prices_refresh: float = Field(
        0,
        ge=0,
        description="Between two fetches of newer prices from the network; 0 never asks it.",
    )
    prices_url: str | None = Field(
        None, description="A mirror to fetch them from, in place of the book's own address."
    )

    # budgets
    budget_check_seconds: float = Field(
        1,
        ge=0,
        le=60,
        description="For how long a process that does not store usage itself may give one answer "
        "to checks of budgets again.",
    )

    alert_rule_seconds: float = Field(
        30,
        ge=0.1,
        le=3600,
        description="Seconds between two looks by alert rules; more where a look takes long.",
    )

    # exceptions
    exception_backlog: int = Field(
        50_000,
        gt=0,
        description="How many tasks of one project's exceptions may wait. Beyond it no more are "
        "accepted, with 429 and `Retry-After`; other projects are.",
    )

    task_lease: float = Field(
        30,
        ge=2,
        description="For how long a worker that is heard of no more keeps its tasks. Longer than "
        "the clocks of workers differ.",
    )
    tool_concurrency: int = Field(
        64,
        ge=2,
        le=1000,
        description="Tools of exceptions that one worker calls at once; a project gets half.",
    )

    exception_weights: str = Field(
        "",
        description="Projects that get more of the workers than others while many wait: `7=4, "
        "12=2`. A project that is not named has 1.",
    )

    # notifications
    notification_networks: str = Field(
        "",
        description="Private networks that notifications and tools may go to, with commas between: "
        "10.0.0.0/8, fd00::/8. Without any they go to public addresses alone, and with TLS.",
    )
    notification_sns_topics: str = Field(
        "",
        description="SNS topics that every project may publish to with the server's own AWS "
        "credentials: ARNs, * stands for anything, with commas between.",
    )
    notification_sns_endpoint: str | None = Field(
        None, description="An SNS server other than Amazon's."
    )

    @field_validator("bootstrap_personal_key")
    @classmethod
    def _check_bootstrap_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        text = key.get_secret_value()
        if not 16 <= len(text) <= 64 or not all("!" <= character <= "~" for character in text):
            raise ValueError("give 16 to 64 printable ASCII characters without spaces")
        return key

    @field_validator("blobs_url")
    @classmethod
    def _check_blobs_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme == "s3" and not parts.netloc:
            raise ValueError("name a bucket: s3://bucket")
        if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
            raise ValueError("give an absolute path: file:///directory")
        if parts.scheme == "s3" and parts.path.strip("/"):
            raise ValueError("give a bucket of its own, without a path: s3://bucket")
        if parts.scheme not in ("file", "s3"):
            raise ValueError("give file:///directory or s3://bucket")
        return url

    @field_validator("notification_networks")
    @classmethod
    def _check_networks(cls, text: str) -> str:
        for each in filter(None, (part.strip() for part in text.split(","))):
            try:
                ip_network(each)
            except ValueError:
                raise ValueError("give networks such as 10.0.0.0/8, with commas between") from None
        return text

    @field_validator("exception_weights")
    @classmethod
    def _check_weights(cls, text: str) -> str:
        read_weights(text)
        return text

    @field_validator("s3_endpoint")
    @classmethod
    def _check_s3_endpoint(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # whose text may repeat the value
            parts, whole = urlsplit(""), False
        if not whole:
            raise ValueError("give https://host, or http://host:port")
        if "@" in parts.netloc:
            raise ValueError(
                "give it without user and password: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
                "are for these"
            )
        return url

    @field_validator("clickhouse_url", "clickhouse_reader_url")
    @classmethod
    def _check_clickhouse_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            parts = urlsplit(url.get_secret_value())
            if parts.scheme != "clickhouse" or not parts.hostname:
                raise ValueError("give clickhouse://user:password@host:8123/nilometer")
        return url

    @property
    def max_wire_bytes(self) -> int:
        """The request body limit: 110 % of all parts (capture contract, section 3)."""
        return self.max_parts_bytes * 11 // 10

    @property
    def effective_blobs_url(self) -> str:
        """Where blobs are kept, the default filled in."""
        return self.blobs_url or (self.data_dir.resolve() / "blobs").as_uri()

    @property
    def effective_database_url(self) -> str:
        """Where organizations, projects, keys and dead letters are kept."""
        if self.distributed and self.database_url is not None:
            return self.database_url.get_secret_value()
        return "sqlite:///" + quote(str(self.data_dir.resolve() / "nilometer.db"))

    @property
    def effective_exceptions_topic(self) -> str:
        """The topic of what happens to exceptions."""
        return self.kafka_exceptions_topic or f"{self.kafka_topic}-exceptions"

    @property
    def distributed(self) -> bool:
        """Whether this is the distributed profile."""
        return self.profile is Profile.DISTRIBUTED

    def check_profile(self) -> None:
        """Raises ConfigurationError for a configuration that is neither profile."""
        servers = {
            "NILOMETER_KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "NILOMETER_DATABASE_URL": self.database_url,
            "NILOMETER_CLICKHOUSE_URL": self.clickhouse_url,
        }
        if self.distributed:
            if self.role is Role.CAPTURE:  # it has no connection to the store
                servers.pop("NILOMETER_CLICKHOUSE_URL")
            missing = [name for name, value in servers.items() if value is None]
            if self.blobs_url is None:
                missing.append("NILOMETER_BLOBS_URL")
            if missing:
                raise ConfigurationError(
                    f"The distributed profile also needs {', '.join(missing)}: nothing of it is "
                    "kept in a data directory."
                )
            return
        # Without the prefix the names are other programs' too, and say nothing about this one.
        prefixed = [name for name, value in servers.items() if value and name in os.environ]
        if prefixed or self.clickhouse_url is not None:
            named = ", ".join(prefixed) or "NILOMETER_CLICKHOUSE_URL"
            raise ConfigurationError(
                f"{named} is of the distributed profile: set NILOMETER_PROFILE=distributed, or "
                "leave it out."
            )
        if self.role is not Role.ALL:
            raise ConfigurationError(
                "The embedded profile has one process with every role; "
                "set NILOMETER_PROFILE=distributed to split them."
            )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        file = os.environ.get("NILOMETER_CONFIG_FILE")
        sources = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, Path(file))) if file else sources


def origins() -> dict[str, str]:
    """Where each setting in effect comes from: `environment`, `file` or `default`."""
    file = os.environ.get("NILOMETER_CONFIG_FILE")
    in_file = TomlConfigSettingsSource(Settings, Path(file))() if file else {}
    in_environment = EnvSettingsSource(Settings)()

    def origin(name: str) -> str:
        if not in_environment.keys().isdisjoint(_names(name)):
            return "environment"
        return "file" if name in in_file else "default"

    return {name: origin(name) for name in Settings.model_fields}


def _names(setting: str) -> set[str]:
    """What a setting is called in the environment's source: its own name, or an alias."""
    alias = Settings.model_fields[setting].validation_alias
    others = alias.choices if isinstance(alias, AliasChoices) else []
    return {setting, *(name for name in others if isinstance(name, str))}


def load(**overrides: Annotated[Any, "settings given on the command line"]) -> Settings:
    """The settings in effect; None among the overrides means "not given".

    Raises ConfigurationError with one line per wrong setting, which never repeats its value.
    """
    file = os.environ.get("NILOMETER_CONFIG_FILE")
    if file and not Path(file).is_file():
        raise ConfigurationError(f"NILOMETER_CONFIG_FILE names {file}, which is not a file")
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        lines = [
            f"NILOMETER_{'.'.join(str(part) for part in issue['loc']).upper()}: "
            + issue["msg"].removeprefix("Value error, ")  # pydantic's, before our own sentences
            for issue in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigurationError("\n".join(lines)) from None
