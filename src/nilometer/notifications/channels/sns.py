"""Amazon SNS: published to a topic, from where it goes to mail, queues, functions and telephones.

https://docs.aws.amazon.com/sns/latest/api/API_Publish.html: people's protocols get text, machines'
the JSON that webhooks get. Needs boto3: `pip install "nilometer[dynamodb]"`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, cast

from nilometer.errors import InvalidInput
from nilometer.notifications.channels.limits import ATTEMPT_SECONDS, CONNECT_SECONDS
from nilometer.notifications.channels.smtp import plain_text
from nilometer.notifications.channels.webhook import payload
from nilometer.notifications.failures import DeliveryFailure, PermanentFailure, TemporaryFailure
from nilometer.notifications.notification import Notification

_TOPIC = re.compile(
    r"arn:aws[a-z-]*:sns:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d):\d{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?"
)
_MAX_SUBJECT = 100
_MACHINES = ("sqs", "lambda", "http", "https", "firehose")
_AGAIN_LATER = re.compile(r"Throttl|Internal|Unavailable|RequestExpired|KMSThrottling|Timeout")


@dataclass(frozen=True, slots=True)
class Sns:
    """Publishes to a topic, with these credentials, or with those of this process's environment
    where there are none (a Lambda's role). `endpoint_url` is for other servers than Amazon's."""

    topic_arn: str
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    endpoint_url: str | None = None

    def send(self, notification: Notification) -> None:
        """Send it; see `nilometer.notifications.channels.Channel`. A FIFO topic itself drops what
        it gets again within five minutes."""
        try:
            from botocore.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
                BotoCoreError,
                ClientError,
            )
        except ModuleNotFoundError:
            raise PermanentFailure(
                'SNS needs boto3: pip install "nilometer[dynamodb]"', code="not_installed"
            ) from None
        try:
            self._client().publish(**request(self.topic_arn, notification))
        except ClientError as error:
            raise _refusal(cast("dict[str, Any]", error.response)) from None
        except BotoCoreError as error:
            raise _unanswered(error) from None

    def _client(self) -> Any:
        from boto3.session import Session  # pyright: ignore[reportMissingTypeStubs]
        from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ATTEMPT_SECONDS - CONNECT_SECONDS,
            retries={"total_max_attempts": 1},  # the outbox tries again, later
        )
        session = cast("Any", Session)(
            aws_access_key_id=self.access_key_id, aws_secret_access_key=self.secret_access_key
        )
        return session.client(
            "sns",
            region_name=region(self.topic_arn),
            endpoint_url=self.endpoint_url,
            config=config,
        )


def region(topic_arn: str) -> str:
    """The region of a topic. Raises InvalidInput for what is no topic."""
    found = _TOPIC.fullmatch(topic_arn)
    if found is None:
        raise InvalidInput(
            "give a topic: arn:aws:sns:eu-central-1:123456789012:name", attr="topic_arn"
        )
    return found["region"]


def request(topic_arn: str, notification: Notification) -> dict[str, Any]:
    """What is published."""
    body = json.dumps(payload(notification), ensure_ascii=False)
    texts = {"default": plain_text(notification), **dict.fromkeys(_MACHINES, body)}
    attributes = {
        "id": notification.id,
        "kind": notification.kind,
        "severity": notification.severity.value,
        "project_id": str(notification.project_id or ""),
    }
    made: dict[str, Any] = {
        "TopicArn": topic_arn,
        "Subject": _subject(notification.title),
        "Message": json.dumps(texts, ensure_ascii=False),
        "MessageStructure": "json",
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value}
            for name, value in attributes.items()
            if value
        },
    }
    if topic_arn.endswith(".fifo"):
        made["MessageGroupId"] = f"project-{notification.project_id or 0}"
        made["MessageDeduplicationId"] = notification.id
    return made


def _subject(title: str) -> str:
    """SNS takes ASCII that begins with a letter, a digit or punctuation; others become `?`."""
    ascii_only = title.encode("ascii", "replace").decode().strip()
    return ascii_only[:_MAX_SUBJECT] or "Nilometer"


def _refusal(answer: dict[str, Any]) -> DeliveryFailure:
    code = re.sub(r"[^A-Za-z]", "", str(answer.get("Error", {}).get("Code", "")))[:60]
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    kind = PermanentFailure
    if status >= 500 or status == 429 or _AGAIN_LATER.search(code):
        kind = TemporaryFailure
    return kind(f"SNS answered {status} {code}.", code="sns_refused")


def _unanswered(error: Exception) -> DeliveryFailure:
    name = type(error).__name__
    if "Credentials" in name:
        return PermanentFailure(
            "There are no AWS credentials to publish with.", code="no_credentials"
        )
    return TemporaryFailure(f"SNS cannot be reached ({name}).", code="unreachable")
