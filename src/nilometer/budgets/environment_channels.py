"""Where a function without a server sends to: channels from environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from nilometer.errors import ConfigurationError, NilometerError
from nilometer.notifications.channels import Channel
from nilometer.notifications.channels.http_post import checked_url
from nilometer.notifications.channels.slack import Slack
from nilometer.notifications.channels.sns import Sns, region
from nilometer.notifications.channels.webhook import Webhook
from nilometer.notifications.reach import Reach
from nilometer.notifications.signature import checked_secret

TOPIC = "NILOMETER_ALERT_SNS_TOPIC"
WEBHOOK = "NILOMETER_ALERT_WEBHOOK_URL"
SECRET = "NILOMETER_ALERT_WEBHOOK_SECRET"  # noqa: S105  (a variable's name)
SLACK = "NILOMETER_ALERT_SLACK_URL"
NETWORKS = "NILOMETER_NOTIFICATION_NETWORKS"


def channels_from(variables: Mapping[str, str]) -> dict[str, Channel]:
    """The channels that the variables name, as `sns`, `webhook` and `slack`. Raises
    ConfigurationError, which names the variable and not its value."""
    found: dict[str, Channel] = {}
    reach = Reach.parse(variables.get(NETWORKS, ""))
    name = ""
    try:
        if topic := variables.get(name := TOPIC, ""):
            region(topic)
            found["sns"] = Sns(topic)
        if url := variables.get(name := WEBHOOK, ""):
            checked_url(url)
            secrets = tuple(variables.get(name := SECRET, "").split())
            if not secrets:
                raise ConfigurationError("a webhook is signed: give whsec_…, two while one changes")
            found["webhook"] = Webhook(url, tuple(map(checked_secret, secrets)), reach)
        if url := variables.get(name := SLACK, ""):
            checked_url(url)
            found["slack"] = Slack(url, reach)
    except NilometerError as error:
        raise ConfigurationError(f"{name}: {error.detail}", attr=name) from None
    return found
