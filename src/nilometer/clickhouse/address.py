"""Where a ClickHouse server is, whose user to be there, and how the tables lie on it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from nilometer.errors import ConfigurationError

DATABASE = "nilometer"

_FORM = "clickhouse://user:password@host:8123/nilometer?secure=true"
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_OPTIONS = {"secure", "verify", "ca_cert"}
_CLUSTER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A server's HTTP interface and a user of it.

    `secure` is TLS; with `verify` (the default) the certificate must be of the host, by the
    authorities of `ca_cert` (a file) or, without it, the usual ones.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    secure: bool = False
    verify: bool = True
    ca_cert: str | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """An address from its URL, whose user and password are percent-encoded.

        Raises ConfigurationError, which does not repeat the URL.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise _misformed() from None
        if parts.scheme != "clickhouse" or not host or parts.fragment:
            raise _misformed()
        if parts.path not in ("", "/", f"/{DATABASE}"):
            raise ConfigurationError(
                f"the ClickHouse database is always {DATABASE}; end the URL with /{DATABASE}"
            )
        options = _options(parts.query)
        secure = _truth(options, "secure", default=False)
        return cls(
            host=host,
            port=port or (8443 if secure else 8123),
            user=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            secure=secure,
            verify=_truth(options, "verify", default=True),
            ca_cert=options.get("ca_cert"),
        )


@dataclass(frozen=True, slots=True)
class Server:
    """A ClickHouse server, or a cluster of one shard behind one address.

    `reader` is the address for SQL that is not ours: a user who may only SELECT (see
    deploy/clickhouse/users.sql); without one, such queries run as the user of `address`, read-only.
    `cluster` names the cluster whose hosts each have a replica of every table; empty for a single
    server. `insert_quorum` is how many replicas must have an insert before it returns, a number or
    `auto` for the majority; empty for one. `timeout` is for how many seconds the server may send
    nothing.
    """

    address: Address
    reader: Address | None = None
    cluster: str = ""
    insert_quorum: str = ""
    timeout: float = 60

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        reader_url: str | None = None,
        cluster: str | None = None,
        insert_quorum: str | None = None,
        timeout: float = 60,
    ) -> Server:
        """A server from settings. Raises ConfigurationError, which repeats no URL."""
        return cls(
            Address.parse(url),
            Address.parse(reader_url) if reader_url else None,
            cluster or "",
            insert_quorum or "",
            timeout,
        )

    def __post_init__(self) -> None:
        if self.cluster and not _CLUSTER.fullmatch(self.cluster):
            raise ConfigurationError("the name of the ClickHouse cluster is not a name")
        if self.insert_quorum and not self.cluster:
            raise ConfigurationError(
                "an insert quorum is of replicas; name their cluster (NILOMETER_CLICKHOUSE_CLUSTER)"
            )
        if not re.fullmatch(r"|auto|[1-9][0-9]?", self.insert_quorum):
            raise ConfigurationError("the insert quorum is a number of replicas, or auto")


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if options.keys() - _OPTIONS:
        raise ConfigurationError(
            f"a ClickHouse URL takes the options {', '.join(sorted(_OPTIONS))} and no others"
        )
    return options


def _truth(options: dict[str, str], name: str, *, default: bool) -> bool:
    text = options.get(name)
    if text is None:
        return default
    if text.lower() not in _TRUTH:
        raise ConfigurationError(f"{name} of a ClickHouse URL is true or false")
    return _TRUTH[text.lower()]


def _misformed() -> ConfigurationError:
    return ConfigurationError(f"give the ClickHouse server as {_FORM}")
