"""What a process is, and what it listens on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings


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


class ProcessSettings(BaseSettings):
    """Its profile and role, its addresses, its log."""

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

    @field_validator("bootstrap_personal_key")
    @classmethod
    def _check_bootstrap_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        text = key.get_secret_value()
        if not 16 <= len(text) <= 64 or not all("!" <= character <= "~" for character in text):
            raise ValueError("give 16 to 64 printable ASCII characters without spaces")
        return key
