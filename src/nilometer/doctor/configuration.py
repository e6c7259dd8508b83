"""The settings themselves: whole, of one mind, with secrets that are some."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from nilometer.blobs import endpoint as endpoints
from nilometer.clickhouse.address import Address
from nilometer.database.engine import Database
from nilometer.doctor import tls_files
from nilometer.doctor.finding import Check, Verdict, ok, together, warning
from nilometer.foundation import clickhouse
from nilometer.pricing.files import load
from nilometer.settings import CAPTURES, WORKS, Role, Settings

SETTINGS = "settings"
"""The check that is needed by those of a server that the settings do not name."""

_LEAST_SECRET = 12
# What manuals, images and our own examples write in place of a secret.
_KNOWN = frozenset(
    {"admin", "changeme", "clickhouse", "default", "kafka", "minioadmin", "nilometer", "password"}
    | {"postgres", "replace-me-1", "replace-me-2", "root", "secret", "test"}
)
_ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})


class Configuration:
    """What can be said of the settings without asking any server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stores = settings.distributed and settings.role is not Role.CAPTURE

    def checks(self) -> list[Check]:
        """The checks of this part."""
        checks = [
            Check(SETTINGS, self.whole, remedy="See docs/configuration.md for every setting."),
            Check("settings.secrets", self.secrets),
        ]
        if self._settings.distributed:
            checks += [
                Check("settings.encryption", self.encryption),
                Check("settings.tls", self.tls),
            ]
        if self._settings.prices_file and self._settings.role in WORKS:
            remedy = "Mend the file that NILOMETER_PRICES_FILE names (docs/prices.md)."
            checks.append(Check("settings.prices", self.prices, remedy=remedy))
        return checks

    def whole(self) -> Verdict:
        """One of the two profiles, and limits that leave room for what they allow."""
        settings = self._settings
        settings.check_profile()
        Database(settings.effective_database_url).close()  # nothing is opened
        if self._stores:
            clickhouse(settings)
        endpoints.is_plain_http(endpoints.effective_endpoint(settings.s3_endpoint))
        return together(
            [self._room(), self._failpoints()],
            f"The {settings.profile} profile with the role {settings.role} is configured whole.",
        )

    def secrets(self) -> Verdict:
        """Passwords and keys: there, and not those of an example."""
        weak = [name for name, secret in self._secrets() if _is_weak(secret)]
        if weak:
            return warning(
                f"{_listed(weak)} {'is' if len(weak) == 1 else 'are'} missing, short, or one that "
                "everybody knows.",
                f"Give each at least {_LEAST_SECRET} random characters "
                "(python -c 'import secrets; print(secrets.token_urlsafe(24))').",
            )
        return ok("No password or key is missing, short, or one that everybody knows.")

    def encryption(self) -> Verdict:
        """Who can read what crosses the network."""
        bare = list(self._unencrypted())
        if bare:
            return warning(
                f"What goes to {_listed(bare)} crosses the network readable.",
                "Use TLS: NILOMETER_KAFKA_SECURITY_PROTOCOL=sasl_ssl, ?sslmode=verify-full in the "
                "database URL, ?secure=true in the ClickHouse URL, https for S3.",
            )
        return ok("Nothing crosses the network readable.")

    def tls(self) -> Verdict:
        """Certificates and keys in files."""
        verdicts = list(self._tls_files())
        count = len(verdicts)
        return together(
            verdicts,
            f"All {count} certificates and keys in files are readable and in force."
            if count
            else "No certificate or key is named.",
        )

    def prices(self) -> Verdict:
        """The file of own prices."""
        path = self._settings.prices_file
        assert path is not None, "the check is made only with one"
        return ok(f"{path} has {len(load(path)):,} prices.")

    def _room(self) -> Verdict:
        settings = self._settings
        share = int(settings.max_inflight_bytes * settings.project_inflight_share)
        if settings.role in CAPTURES and share < settings.max_wire_bytes:
            return warning(
                f"A project may have {share:,} bytes in flight, and one request "
                f"{settings.max_wire_bytes:,}: the largest are always answered 429.",
                "Raise NILOMETER_MAX_INFLIGHT_BYTES, or lower NILOMETER_MAX_PARTS_BYTES.",
            )
        return ok("")

    def _failpoints(self) -> Verdict:
        if self._settings.failpoints:
            return warning(
                "Failpoints are set: this deployment breaks on purpose.",
                "Remove NILOMETER_FAILPOINTS.",
            )
        return ok("")

    def _secrets(self) -> Iterator[tuple[str, str]]:
        settings = self._settings
        if settings.bootstrap_personal_key:
            yield "NILOMETER_BOOTSTRAP_PERSONAL_KEY", _text(settings.bootstrap_personal_key)
        if settings.distributed:
            for name, url in self._urls():
                # A client certificate takes a password's place.
                if "sslcert" not in parse_qs(urlsplit(url).query):
                    yield f"NILOMETER_{name} (its password)", unquote(urlsplit(url).password or "")
            if settings.kafka_sasl_password:
                yield "NILOMETER_KAFKA_SASL_PASSWORD", _text(settings.kafka_sasl_password)
        if settings.effective_blobs_url.startswith("s3:") and "AWS_ACCESS_KEY_ID" in os.environ:
            yield "AWS_SECRET_ACCESS_KEY", os.environ.get("AWS_SECRET_ACCESS_KEY", "")

    def _urls(self) -> Iterator[tuple[str, str]]:
        """Those that have a password, of servers that this role talks to."""
        settings = self._settings
        if settings.database_url:
            yield "DATABASE_URL", _text(settings.database_url)
        if self._stores and settings.clickhouse_url:
            yield "CLICKHOUSE_URL", _text(settings.clickhouse_url)
        if self._stores and settings.clickhouse_reader_url:
            yield "CLICKHOUSE_READER_URL", _text(settings.clickhouse_reader_url)

    def _unencrypted(self) -> Iterator[str]:
        settings = self._settings
        brokers = (settings.kafka_bootstrap_servers or "").split(",")
        if not settings.kafka_security_protocol.endswith("ssl") and any(map(_is_far, brokers)):
            yield "Kafka"
        for name, url in self._urls():
            parts = urlsplit(url)
            query = parse_qs(parts.query)
            if name == "DATABASE_URL":
                encrypted = query.get("sslmode", [""])[-1] in _ENCRYPTED
            else:
                encrypted = Address.parse(url).secure
            if not encrypted and _is_far(parts.netloc.rpartition("@")[2]):
                yield "PostgreSQL" if name == "DATABASE_URL" else "ClickHouse"
        endpoint = endpoints.effective_endpoint(settings.s3_endpoint) or ""
        if endpoint.startswith("http:") and _is_far(urlsplit(endpoint).netloc):
            yield "S3"

    def _tls_files(self) -> Iterator[Verdict]:
        settings = self._settings
        if settings.kafka_tls_ca_file:
            yield tls_files.authorities(settings.kafka_tls_ca_file, "NILOMETER_KAFKA_TLS_CA_FILE")
        if settings.kafka_tls_certificate_file and settings.kafka_tls_key_file:
            yield tls_files.identity(
                settings.kafka_tls_certificate_file,
                settings.kafka_tls_key_file,
                "NILOMETER_KAFKA_TLS_CERTIFICATE_FILE",
                password=_text(settings.kafka_tls_key_password),
            )
        for name, url in self._urls():
            given = {key: values[-1] for key, values in parse_qs(urlsplit(url).query).items()}
            setting = f"NILOMETER_{name}"
            authority = given.get("ca_cert") or given.get("sslrootcert")
            if authority and authority != "system":  # libpq's word for those of the machine
                yield tls_files.authorities(authority, setting)
            if "sslcert" in given and "sslkey" in given:
                yield tls_files.identity(
                    given["sslcert"], given["sslkey"], setting, password=given.get("sslpassword")
                )


def _text(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _is_weak(secret: str) -> bool:
    return len(secret) < _LEAST_SECRET or secret.lower() in _KNOWN or len(set(secret)) < 5


def _is_far(address: str) -> bool:
    """Whether it is a host, with or without a port, that is not this machine."""
    host = (urlsplit(f"//{address.strip()}").hostname or "") if address.strip() else ""
    return bool(host) and not endpoints.is_loopback(host)


def _listed(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
