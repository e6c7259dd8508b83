"""A channel's configuration: what it may be, what of it is shown, and the channel it makes.

What is secret (a URL whose path is a password, a signing secret, a password) is kept apart from
the rest and never leaves this room but towards its receiver. It lies in the database as it is: who
can read that, can send in its name.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from nilometer.domain import members
from nilometer.errors import InvalidInput
from nilometer.notifications import signature
from nilometer.notifications.channels import Channel, ChannelKind
from nilometer.notifications.channels.http_post import checked_url
from nilometer.notifications.channels.slack import Slack
from nilometer.notifications.channels.smtp import Security, Smtp
from nilometer.notifications.channels.sns import Sns, region
from nilometer.notifications.channels.webhook import Webhook
from nilometer.notifications.failures import PermanentFailure
from nilometer.notifications.reach import PUBLIC, Reach
from nilometer.settings import Settings

MAX_RECIPIENTS = 50

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,45}")
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,188})")
_MASK = "…"


@dataclass(frozen=True, slots=True)
class Egress:
    """What the operator allows: where to connect to, the topics (patterns of ARNs) to publish to
    with the server's own AWS credentials, and an SNS server other than Amazon's."""

    reach: Reach = PUBLIC
    own_topics: tuple[str, ...] = ()
    sns_endpoint: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Egress:
        """As the settings say."""
        topics = settings.notification_sns_topics.split(",")
        return cls(
            Reach.parse(settings.notification_networks),
            tuple(each.strip() for each in topics if each.strip()),
            settings.notification_sns_endpoint,
        )

    def of_project(self, project_id: int) -> Egress:
        """The same, within the share of a project: whose names resolve slowly keeps no other
        waiting."""
        return replace(self, reach=self.reach.of(project_id))

    def lends_credentials(self, topic_arn: str) -> bool:
        """Whether the server's own AWS credentials may publish to a topic."""
        return any(fnmatch.fnmatchcase(topic_arn, pattern) for pattern in self.own_topics)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is kept of a channel: what may be shown, and what may not."""

    shown: Mapping[str, Any]
    secrets: Mapping[str, Any] = field(repr=False)


def _matched(pattern: re.Pattern[str], sentence: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(sentence)
        return text

    return AfterValidator(check)


_Host = Annotated[str, _matched(_HOST, "give the name of a host")]
_Mail = Annotated[str, _matched(_MAIL, "give a mail address, of ASCII characters")]
_Ascii = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[ -~]+$")]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    # Whether it is told of exceptions by itself (`incidents.telling`); None is true.
    exceptions: bool | None = None


class _Webhook(_Given):
    url: _Ascii
    secret: _Ascii


class _Slack(_Given):
    url: _Ascii


class _Smtp(_Given):
    host: _Host
    port: int = Field(587, ge=1, le=65535)
    security: Security = Security.STARTTLS
    username: _Ascii | None = None
    password: _Ascii | None = None
    sender: _Mail
    recipients: list[_Mail] = Field(min_length=1, max_length=MAX_RECIPIENTS)


class _Sns(_Given):
    topic_arn: str
    access_key_id: _Ascii | None = None
    secret_access_key: _Ascii | None = None


_MODELS: dict[ChannelKind, type[_Given]] = {
    ChannelKind.WEBHOOK: _Webhook,
    ChannelKind.SLACK: _Slack,
    ChannelKind.SMTP: _Smtp,
    ChannelKind.SNS: _Sns,
}
SECRETS = frozenset({"url", "secret", "password", "secret_access_key"})
# Who gets a password: a change of it needs the password as well, or one who may change a channel
# and not see its password could have it sent to himself.
_PASSWORD_GOES_TO = ("host", "port", "security", "username")


def read(kind: ChannelKind, given: Mapping[str, Any], egress: Egress) -> Configuration:
    """The configuration of a new channel. A webhook without a secret gets one. Raises InvalidInput,
    which never repeats a value."""
    if kind is ChannelKind.WEBHOOK and given.get("secret") is None:
        given = {**given, "secret": signature.new_secret()}
    return _checked(kind, given, egress)


def changed(
    kind: ChannelKind, before: Configuration, given: Mapping[str, Any], egress: Egress
) -> Configuration:
    """A configuration with these members in place of its own; null takes one away. Raises
    InvalidInput."""
    if "secret" in given:
        raise InvalidInput("rotate the secret instead, so that no message is lost", attr="secret")
    own = {name: value for name, value in before.shown.items() if name != "url"}
    secrets = {name: value for name, value in before.secrets.items() if name in SECRETS}
    merged = {**own, **secrets, **given}
    moved = any(merged.get(name) != own.get(name) for name in _PASSWORD_GOES_TO)
    if secrets.get("password") and moved and "password" not in given:
        raise InvalidInput("give the password again: it would go elsewhere", attr="password")
    now = _checked(kind, merged, egress)
    rest = {name: value for name, value in before.secrets.items() if name not in SECRETS}
    return Configuration(now.shown, {**now.secrets, **rest})


def rotated(before: Configuration, secret: str | None, until: datetime) -> Configuration:
    """A webhook's configuration with a new secret, by default a random one. Until then the one
    before signs as well. Raises InvalidInput."""
    new = signature.new_secret() if secret is None else signature.checked_secret(secret)
    secrets = {
        **before.secrets,
        "secret": new,
        "previous": before.secrets["secret"],
        "previous_until": until.isoformat(),
    }
    return Configuration(before.shown, secrets)


def channel(kind: ChannelKind, kept: Configuration, egress: Egress, now: datetime) -> Channel:
    """The channel to send through. Raises PermanentFailure where the operator does not allow it."""
    shown, secrets = kept.shown, kept.secrets
    match kind:
        case ChannelKind.WEBHOOK:
            return Webhook(secrets["url"], _signing(secrets, now), egress.reach)
        case ChannelKind.SLACK:
            return Slack(secrets["url"], egress.reach)
        case ChannelKind.SMTP:
            return Smtp(
                host=shown["host"],
                port=shown["port"],
                sender=shown["sender"],
                recipients=tuple(shown["recipients"]),
                security=Security(shown["security"]),
                username=shown.get("username"),
                password=secrets.get("password"),
                reach=egress.reach,
            )
        case ChannelKind.SNS:
            return _sns(shown, secrets, egress)


def _signing(secrets: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    until = secrets.get("previous_until")
    if until is None or datetime.fromisoformat(until) <= now:
        return (secrets["secret"],)
    return secrets["secret"], secrets["previous"]


def _sns(shown: Mapping[str, Any], secrets: Mapping[str, Any], egress: Egress) -> Sns:
    topic, key = shown["topic_arn"], shown.get("access_key_id")
    if key is None and not egress.lends_credentials(topic):
        raise PermanentFailure(_OWN_CREDENTIALS, code="no_credentials")
    return Sns(topic, key, secrets.get("secret_access_key"), egress.sns_endpoint)


_OWN_CREDENTIALS = (
    "Give access_key_id and secret_access_key: the operator has not allowed this topic for the "
    "server's own credentials (NILOMETER_NOTIFICATION_SNS_TOPICS)."
)


def _checked(kind: ChannelKind, given: Mapping[str, Any], egress: Egress) -> Configuration:
    try:
        model = _MODELS[kind].model_validate_json(json.dumps(dict(given)))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        attr = ".".join(str(part) for part in first["loc"]) or None
        sentence = members.sentence(first, _MODELS[kind])
        raise InvalidInput(f"{attr or 'config'}: {sentence}", attr=attr) from None
    _CHECKS[kind](model, egress)
    values = {k: v for k, v in model.model_dump(mode="json").items() if v is not None}
    shown = {name: value for name, value in values.items() if name not in SECRETS}
    if "url" in values:
        shown["url"] = _masked(values["url"])
    return Configuration(shown, {k: v for k, v in values.items() if k in SECRETS})


def _check_url(given: Any, egress: Egress) -> None:
    if checked_url(given.url).scheme == "http" and not egress.reach.networks:
        raise InvalidInput("give https: without TLS nothing is sent", attr="url")
    if isinstance(given, _Webhook):
        signature.checked_secret(given.secret)


def _check_smtp(given: Any, egress: Egress) -> None:
    if (given.username is None) != (given.password is None):
        raise InvalidInput("give username and password together", attr="password")
    if given.security is not Security.NONE:
        return
    if given.username is not None:
        raise InvalidInput("a password is not sent without TLS", attr="security")
    if not egress.reach.networks:
        raise InvalidInput("give tls or starttls: without TLS nothing is sent", attr="security")


def _check_sns(given: Any, egress: Egress) -> None:
    region(given.topic_arn)
    if (given.access_key_id is None) != (given.secret_access_key is None):
        raise InvalidInput(
            "give access_key_id and secret_access_key together", attr="secret_access_key"
        )
    if given.access_key_id is None and not egress.lends_credentials(given.topic_arn):
        raise InvalidInput(_OWN_CREDENTIALS, attr="access_key_id")


_CHECKS = {
    ChannelKind.WEBHOOK: _check_url,
    ChannelKind.SLACK: _check_url,
    ChannelKind.SMTP: _check_smtp,
    ChannelKind.SNS: _check_sns,
}


def _masked(text: str) -> str:
    """A URL without what may be a password: its path and query."""
    url = checked_url(text)
    return f"{url.scheme}://{url.netloc.decode()}/{_MASK}"
