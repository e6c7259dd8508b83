"""How to reach the cluster, and what its errors mean."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from nilometer.errors import ConfigurationError

logger = logging.getLogger(__name__)

# Where librdkafka's own log lines go: connections that break and come back, at `info` and up.
client_logger = logging.getLogger("nilometer.log.kafka.client")

SECURITY_PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Addresses and credentials. Files are PEM.

    Raises ConfigurationError when parts of it are missing or at odds, without repeating a secret.
    """

    bootstrap_servers: str
    security_protocol: str = "plaintext"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    tls_ca_file: str | None = None
    tls_certificate_file: str | None = None
    tls_key_file: str | None = None
    tls_key_password: str | None = field(default=None, repr=False)
    client_id: str = "nilometer"

    def __post_init__(self) -> None:
        if self.security_protocol not in SECURITY_PROTOCOLS:
            raise ConfigurationError(
                f"the Kafka security protocol is one of {', '.join(SECURITY_PROTOCOLS)}"
            )
        self._check_sasl()
        self._check_tls()

    def options(self) -> dict[str, Any]:
        """The options that every client of librdkafka is opened with."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": self.client_id,
            "security.protocol": self.security_protocol,
            "socket.keepalive.enable": True,
            # A broker that comes back is found within a second, not ten.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "log.connection.close": False,
            # A topic that is gone must not come back with the cluster's defaults.
            "allow.auto.create.topics": False,
            # Nothing about this process goes to the cluster's operator unasked (KIP-714).
            "enable.metrics.push": False,
            **self._credentials(),
        }

    def _credentials(self) -> dict[str, str]:
        given = {
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": self.sasl_password,
            "ssl.ca.location": self.tls_ca_file,
            "ssl.certificate.location": self.tls_certificate_file,
            "ssl.key.location": self.tls_key_file,
            "ssl.key.password": self.tls_key_password,
        }
        return {name: value for name, value in given.items() if value is not None}

    def _check_sasl(self) -> None:
        given = (self.sasl_mechanism, self.sasl_username, self.sasl_password)
        if self.security_protocol.startswith("sasl_"):
            if not all(given):
                raise ConfigurationError(
                    "SASL to Kafka needs a mechanism, a user name and a password"
                )
            if self.sasl_mechanism not in SASL_MECHANISMS:
                raise ConfigurationError(
                    f"the SASL mechanism for Kafka is one of {', '.join(SASL_MECHANISMS)}"
                )
        elif any(given):
            raise ConfigurationError(
                "credentials are given for Kafka, but its security protocol is "
                f"{self.security_protocol}: choose sasl_ssl (or sasl_plaintext)"
            )

    def _check_tls(self) -> None:
        given = (self.tls_ca_file, self.tls_certificate_file, self.tls_key_file)
        if any(given) and not self.security_protocol.endswith("ssl"):
            raise ConfigurationError(
                "TLS files are given for Kafka, but its security protocol is "
                f"{self.security_protocol}: choose ssl or sasl_ssl"
            )
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ConfigurationError(
                "a client certificate for Kafka needs both its file and its key's file"
            )


def error_of(exception: KafkaException) -> KafkaError:
    """The error that an exception of librdkafka carries."""
    error = exception.args[0]
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError._FAIL, str(error))  # noqa: SLF001


def is_fatal(error: KafkaError) -> bool:
    """Whether the client that reported it is of no use any more."""
    return error.fatal() or error.code() == KafkaError._FATAL  # noqa: SLF001


def sentence(error: KafkaError) -> str:
    """What went wrong, in librdkafka's words: names of topics and brokers, never content."""
    return error.str().rstrip(".")
