"""The configuration of HTTP tools and webhooks: what it may be, and as it is read again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nilometer.domain import members
from nilometer.errors import InvalidInput
from nilometer.incidents.tools import templates
from nilometer.incidents.tools.kinds import ToolKind
from nilometer.notifications.channels.http_post import MAX_URL
from nilometer.notifications.reach import Reach

MAX_TIMEOUT = 60.0
MAX_HEADERS = 30
MAX_ANSWER = 1 << 20
DEFAULT_ANSWER = 64 * 1024
IDEMPOTENCY_HEADER = "Idempotency-Key"

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# What the request itself says, or the connection, or this server.
_OURS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade"),
        *("te", "trailer", "expect", "proxy-authorization", "proxy-connection", "accept-encoding"),
        *("webhook-id", "webhook-timestamp", "webhook-signature", "traceparent"),
    }
)

_Url = Annotated[str, Field(min_length=1, max_length=MAX_URL, pattern=r"^[!-~]+$")]
_Header = Annotated[str, Field(max_length=2000)]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Reconcile(_Given):
    """How to find out what became of a request whose answer was lost: a GET, of the same host, that
    is answered with 2xx when it was done, and with 404 or 410 when it was not."""

    url: _Url


class RemoteConfig(_Given):
    """A tool that goes to an address. `honours_idempotency_key`: the receiver does the same request
    under the same key once, so that it may be repeated when the answer was lost."""

    url: _Url
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: dict[str, _Header] = Field(default_factory=dict[str, str], max_length=MAX_HEADERS)
    body: Literal["input", "none"] = "input"
    timeout_seconds: float = Field(20.0, ge=1, le=MAX_TIMEOUT)
    max_response_bytes: int = Field(DEFAULT_ANSWER, ge=0, le=MAX_ANSWER)
    idempotency_header: str = IDEMPOTENCY_HEADER
    honours_idempotency_key: bool = False
    signed: bool = False
    event_type: str = Field("incident.tool", pattern=r"^[a-zA-Z0-9_.-]{1,100}$")
    reconcile: Reconcile | None = None

    @property
    def reconcilable(self) -> bool:
        """Whether it can be found out what became of a request, or the same be sent again."""
        return self.is_safe or self.honours_idempotency_key or self.reconcile is not None

    @property
    def is_safe(self) -> bool:
        """Whether a request changes nothing (RFC 9110, section 9.2.1)."""
        return self.method == "GET"

    @property
    def secret_names(self) -> set[str]:
        """The secrets that it takes, but for the one that it signs with."""
        texts = [self.url, *self.headers.values()]
        if self.reconcile is not None:
            texts.append(self.reconcile.url)
        return {name for text in texts for name in templates.secrets_in(text)}


# What a webhook is and an HTTP tool may be otherwise: a signed POST with a body.
_OF_WEBHOOKS = {"method": "POST", "body": "input", "signed": True}
_OF_HTTP = ("event_type",)


def read(kind: ToolKind, given: Mapping[str, Any]) -> RemoteConfig:
    """The configuration that was given, or stored. Raises InvalidInput, which repeats no value."""
    stated = dict(given)
    if kind is ToolKind.WEBHOOK:
        _check_absent(stated, _OF_WEBHOOKS, kind)
        # Who takes Standard Webhooks takes a message of one `webhook-id` once.
        stated = {"honours_idempotency_key": True, **stated, **_OF_WEBHOOKS}
    else:
        _check_absent(stated, _OF_HTTP, kind)
    try:
        return RemoteConfig.model_validate_json(json.dumps(stated))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        attr = ".".join(["config", *(str(part) for part in first["loc"])])
        others = _OF_WEBHOOKS if kind is ToolKind.WEBHOOK else _OF_HTTP
        told = members.sentence(first, RemoteConfig, but=others)
        raise InvalidInput(f"{attr}: {told}", attr=attr) from None


def check(config: RemoteConfig, reach: Reach) -> None:
    """Raises InvalidInput for what cannot be sent, or leads to two hosts."""
    origin = _checked_origin(config.url, "config.url", reach)
    if config.reconcile is not None:
        attr = "config.reconcile.url"
        if _checked_origin(config.reconcile.url, attr, reach) != origin:
            raise InvalidInput("it is of the same host as the tool's URL", attr=attr)
    if config.is_safe and config.body == "input" and config.signed:
        raise InvalidInput("only what has a body is signed", attr="config.signed")
    for name, value in config.headers.items():
        _check_header(name, value, config)
    if not _TOKEN.fullmatch(config.idempotency_header) or (
        config.idempotency_header.lower() in _OURS
    ):
        raise InvalidInput("give the name of a header", attr="config.idempotency_header")


def origin(config: RemoteConfig) -> str:
    """Where it goes: scheme, host and port. Secrets are given for one of them."""
    return _origin(templates.checked_template(config.url, "config.url"))


def _checked_origin(text: str, attr: str, reach: Reach) -> str:
    url = templates.checked_template(text, attr)
    if url.scheme == "http" and not reach.networks:
        raise InvalidInput("give https: without TLS nothing is sent", attr=attr)
    return _origin(url)


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"


def _check_header(name: str, value: str, config: RemoteConfig) -> None:
    attr = f"config.headers.{name}" if _TOKEN.fullmatch(name) else "config.headers"
    taken = {*_OURS, config.idempotency_header.lower()}
    if not _TOKEN.fullmatch(name) or name.lower() in taken:
        raise InvalidInput("a header of this name cannot be set", attr=attr)
    templates.check_header(value, attr)


def _check_absent(stated: Mapping[str, Any], names: Any, kind: ToolKind) -> None:
    for name in names:
        if name in stated:
            raise InvalidInput(f"a tool of kind {kind} has no {name}", attr=f"config.{name}")
