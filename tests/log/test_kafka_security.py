"""TLS and SASL to a broker that asks for both."""

from __future__ import annotations

import datetime as dt
import ipaddress
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nilometer.errors import ConfigurationError
from nilometer.listening import listening, port_of
from nilometer.log.kafka import KafkaConnection, KafkaLog, TopicPlan
from nilometer.log.port import LogUnavailable
from tests.log.logs import envelope, numbers, read_all
from tests.private_servers import KafkaServer, private

PASSWORD = "correct-horse-battery"


@dataclass(frozen=True)
class Identity:
    """A key and the certificate for it, PEM."""

    key: str
    certificate: str


def identity(name: str, signer: Identity | None = None) -> Identity:
    """Of `localhost`; signed by itself or by an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    signing, issuer = key, subject
    if signer is not None:
        loaded = serialization.load_pem_private_key(signer.key.encode(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signing = loaded
        issuer = x509.load_pem_x509_certificate(signer.certificate.encode()).subject
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signing, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Identity(encoded.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode())


class GuardedKafka(KafkaServer):
    """A broker with one more listener, which asks for a certificate and a password."""

    authority: Identity
    guarded_port: int

    def _properties(self) -> dict[str, str]:
        plain = super()._properties()
        name, own = "GUARDED", identity("broker", self.authority)
        guarded = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.key": _one_line(own.key),
            "ssl.keystore.certificate.chain": _one_line(own.certificate),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.certificates": _one_line(self.authority.certificate),
            "ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN",
            "plain.sasl.jaas.config": (
                "org.apache.kafka.common.security.plain.PlainLoginModule required "
                f'user_nilometer="{PASSWORD}";'
            ),
        }
        address = f"{name}://{{}}:{self.guarded_port}"
        return (
            plain
            | {
                "listeners": f"{plain['listeners']},{address.format('127.0.0.1')}",
                "advertised.listeners": (
                    f"{plain['advertised.listeners']},{address.format('localhost')}"
                ),
                "listener.security.protocol.map": (
                    f"{plain['listener.security.protocol.map']},{name}:SASL_SSL"
                ),
            }
            | {f"listener.name.{name.lower()}.{key}": value for key, value in guarded.items()}
        )


def _one_line(pem: str) -> str:
    return pem.strip().replace("\n", "\\n")


@pytest.fixture(scope="module")
def authority() -> Identity:
    return identity("authority")


@pytest.fixture(scope="module")
def broker(authority: Identity) -> Iterator[GuardedKafka]:
    with listening("127.0.0.1", 0, remedy="") as free:
        port = port_of(free)
    GuardedKafka.authority, GuardedKafka.guarded_port = authority, port
    with private(GuardedKafka) as server:
        yield server


@pytest.fixture
def connection(broker: GuardedKafka, authority: Identity, tmp_path: Path) -> KafkaConnection:
    own = identity("client", authority)
    files = {"ca": authority.certificate, "cert": own.certificate, "key": own.key}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return KafkaConnection(
        f"localhost:{broker.guarded_port}",
        security_protocol="sasl_ssl",
        sasl_mechanism="PLAIN",
        sasl_username="nilometer",
        sasl_password=PASSWORD,
        tls_ca_file=str(tmp_path / "ca"),
        tls_certificate_file=str(tmp_path / "cert"),
        tls_key_file=str(tmp_path / "key"),
    )


def opened(connection: KafkaConnection, timeout: float = 10) -> KafkaLog:
    plan = TopicPlan(f"t-{uuid4().hex}", partitions=1, allow_single_replica=True)
    return KafkaLog(connection, plan, answer_timeout=timeout, state_interval=0.1)


def test_with_certificate_and_password_records_go_through(connection: KafkaConnection) -> None:
    log = opened(connection)
    log.append_blocking(envelope(1))
    assert numbers(read_all(log.consumer("a"), 1)) == [1]
    log.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sasl_password": "wrong-staple"}, "uthentication failed"),
        ({"security_protocol": "plaintext"} | dict.fromkeys(
            ("sasl_mechanism", "sasl_username", "sasl_password", "tls_ca_file",
             "tls_certificate_file", "tls_key_file")), "does not answer"),
        ({"tls_certificate_file": None, "tls_key_file": None}, "SSL"),
    ],
    ids=["password", "plaintext", "certificate"],
)  # fmt: skip
def test_what_the_broker_objects_to_is_told_without_a_secret(
    connection: KafkaConnection,
    changes: dict[str, Any],
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(LogUnavailable, match=said) as refused:
        opened(replace(connection, **changes), timeout=5)
    for secret in (PASSWORD, "wrong-staple"):
        assert secret not in refused.value.detail
        assert secret not in caplog.text


def test_a_broker_that_another_authority_vouches_for_is_not_talked_to(
    connection: KafkaConnection, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text(identity("other").certificate)
    with pytest.raises(LogUnavailable, match="certificate verify failed"):
        opened(replace(connection, tls_ca_file=str(tmp_path / "other")), timeout=5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"security_protocol": "tls"}, "is one of plaintext, ssl"),
        ({"security_protocol": "sasl_ssl"}, "needs a mechanism, a user name and a password"),
        ({"sasl_username": "x", "sasl_password": "hush"}, "its security protocol is plaintext"),
        ({"tls_ca_file": "/ca"}, "TLS files are given"),
        ({"security_protocol": "ssl", "tls_certificate_file": "/c"}, "both its file and its key"),
        (
            {
                "security_protocol": "sasl_ssl",
                "sasl_mechanism": "GSSAPI",
                "sasl_username": "x",
                "sasl_password": "hush",
            },
            "SASL mechanism for Kafka is one of",
        ),
    ],
)
def test_settings_at_odds_are_refused_without_the_secret(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        KafkaConnection("localhost:1", **changes)
    assert "hush" not in refused.value.detail


def test_a_file_that_is_not_there_is_the_operators_to_mend() -> None:
    with pytest.raises(ConfigurationError, match="cannot be used as configured"):
        opened(KafkaConnection("localhost:1", security_protocol="ssl", tls_ca_file="/no/such"))


def test_a_connection_prints_without_its_secrets() -> None:
    connection = KafkaConnection(
        "b:1",
        security_protocol="sasl_ssl",
        sasl_mechanism="PLAIN",
        sasl_username="x",
        sasl_password="hush",
    )
    assert "hush" not in repr(connection)
