"""Certificates in files: readable, with their keys, in force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nilometer.doctor import tls_files
from nilometer.doctor.configuration import Configuration
from nilometer.settings import Settings

NOW = datetime.now(UTC)


def pair(
    folder: Path, *, begins: timedelta, ends: timedelta, password: bytes = b"", ca: bool = True
) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + begins)
        .not_valid_after(NOW + ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(*form))
    files[1].chmod(0o600)
    return str(files[0]), str(files[1])


DAY = timedelta(days=1)
TIMES = pytest.mark.parametrize(
    ("begins", "ends", "outcome", "said"),
    [
        (-DAY, 90 * DAY, "ok", "in force"),
        (-DAY, 3 * DAY, "warning", "expires in 2 days"),
        (-9 * DAY, -DAY, "failed", "expired on"),
        (DAY, 90 * DAY, "failed", "not in force before"),
    ],
)


@TIMES
@pytest.mark.parametrize("ca", [True, False])
def test_an_authority_that_is_not_in_force_is_told(tmp_path, begins, ends, outcome, said, ca):
    certificate, _ = pair(tmp_path, begins=begins, ends=ends, ca=ca)
    verdict = tls_files.authorities(certificate, "SETTING")
    assert verdict.outcome == outcome
    assert said in verdict.found


@TIMES
def test_a_certificate_of_our_own_that_is_not_in_force_is_told(
    tmp_path, begins, ends, outcome, said
):
    verdict = tls_files.identity(*pair(tmp_path, begins=begins, ends=ends), "SETTING")
    assert verdict.outcome == outcome
    assert said in verdict.found


def test_one_authority_in_force_among_others_is_enough(tmp_path):
    texts = []
    for ends in (-DAY, 90 * DAY):
        certificate, _ = pair(tmp_path, begins=-9 * DAY, ends=ends)
        texts.append(Path(certificate).read_text())
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("".join(texts))
    assert tls_files.authorities(str(bundle), "SETTING").outcome == "ok"


def test_another_s_key_a_locked_one_and_a_file_that_is_not_there_are_told(tmp_path):
    (tmp_path / "other").mkdir()
    mine, locked = pair(tmp_path, begins=-DAY, ends=90 * DAY, password=b"hush-hush")
    _, other = pair(tmp_path / "other", begins=-DAY, ends=90 * DAY)
    assert tls_files.identity(mine, other, "SETTING").outcome == "failed"
    assert tls_files.identity(mine, locked, "SETTING").outcome == "failed"
    assert tls_files.identity(mine, locked, "SETTING", password="hush-hush").outcome == "ok"
    missing = tls_files.identity(mine, str(tmp_path / "none"), "SETTING")
    assert (missing.outcome, "no such file" in missing.found) == ("failed", True)
    assert tls_files.authorities(str(tmp_path / "none"), "SETTING").outcome == "failed"
    (tmp_path / "text").write_text("not a certificate")
    assert tls_files.authorities(str(tmp_path / "text"), "SETTING").outcome == "failed"


def test_a_key_that_everybody_can_read_is_told(tmp_path):
    certificate, key = pair(tmp_path, begins=-DAY, ends=90 * DAY)
    Path(key).chmod(0o644)
    verdict = tls_files.identity(certificate, key, "SETTING")
    assert verdict.outcome == "warning"
    assert "Every user" in verdict.found


def test_the_files_of_every_server_are_looked_at(tmp_path):
    certificate, key = pair(tmp_path, begins=-9 * DAY, ends=-DAY)
    settings = Settings(
        profile="distributed",
        kafka_security_protocol="ssl",
        kafka_tls_ca_file=certificate,
        kafka_tls_certificate_file=certificate,
        kafka_tls_key_file=key,
        database_url=f"postgresql://u:p@h/d?sslrootcert={certificate}&sslcert={certificate}"
        f"&sslkey={key}",
        clickhouse_url=f"clickhouse://u:p@h/nilometer?secure=true&ca_cert={certificate}",
    )
    verdict = Configuration(settings).tls()
    assert verdict.outcome == "failed"
    assert verdict.found.count("expired") == 5
    assert "DATABASE_URL" in verdict.remedy
    assert "CLICKHOUSE_URL" in verdict.remedy
