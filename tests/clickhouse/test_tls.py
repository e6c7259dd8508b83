"""A server behind TLS: its certificate is checked, for our statements and for untrusted ones."""

import ipaddress
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nilometer.clickhouse.address import Server
from nilometer.clickhouse.store import Store, StoreUnavailable
from tests.clickhouse_server.running import ClickHouseServer
from tests.clickhouse_server.stores import running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    directory = tmp_path_factory.mktemp("tls")
    certificate = directory / "certificate.pem"
    certificate.write_bytes(certified("127.0.0.1"))
    with running(directory / "data", certificate) as server:
        yield server


def certified(address: str) -> bytes:
    """A certificate of the address by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private


def opened_and_asked(server: ClickHouseServer, **options: str) -> bytes:
    with closing(Store(Server.parse(server.url(secure="true", **options), timeout=10))) as store:
        store.open()
        with store.sandbox({"max_threads": 1}) as sandbox:
            return sandbox.read("SELECT 1", "TSV")


def test_a_certificate_of_a_known_authority_is_taken(server: ClickHouseServer):
    assert opened_and_asked(server, ca_cert=str(server.certificate)) == b"1\n"


def test_an_unknown_certificate_is_an_outage(server: ClickHouseServer):
    with pytest.raises(StoreUnavailable):
        opened_and_asked(server)


def test_anothers_certificate_is_an_outage(server: ClickHouseServer, tmp_path: Path):
    another = tmp_path / "another.pem"
    another.write_bytes(certified("127.0.0.2"))
    with running(tmp_path / "data", another) as elsewhere, pytest.raises(StoreUnavailable):
        opened_and_asked(elsewhere, ca_cert=str(another))


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_who_asks_for_no_check_gets_none(server: ClickHouseServer):
    assert opened_and_asked(server, verify="false") == b"1\n"


def test_no_tls_on_a_port_of_tls_is_an_outage(server: ClickHouseServer):
    with pytest.raises(StoreUnavailable):
        Store(Server.parse(server.url(), timeout=3)).open()
