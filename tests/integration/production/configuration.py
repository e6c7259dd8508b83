"""Which deployment, and which team of it: the production `export` block, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

REQUIRED = (
    "POSTHOG_PROJECT_API_KEY",
    "POSTHOG_HOST",
    "POSTHOG_PROJECT_ID",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "LLMA_S3_BUCKET",
    "LLMA_TEAM_ID",
)
MODE = "LLMA_TEST_MODE"
DELAY = "LLMA_REQUEST_DELAY_SECONDS"
DEFAULT_DELAY = "0.5"


class NotConfigured(Exception):
    """The environment does not say which deployment; the message says what is missing."""


@dataclass(frozen=True)
class Configuration:
    """One deployment and one team of it. `s3_endpoint` is None for Amazon's. `delay` is in seconds,
    between any two requests."""

    host: str
    project_id: str
    team_id: str
    bucket: str
    region: str
    s3_endpoint: str | None
    delay: float
    api_key: str = field(repr=False)
    s3_key_id: str = field(repr=False)
    s3_secret: str = field(repr=False)


def from_environment(environment: Mapping[str, str]) -> Configuration:
    """The configuration. Raises NotConfigured."""
    missing = [name for name in REQUIRED if not environment.get(name)]
    if environment.get(MODE) != "production":
        missing.append(f'{MODE}="production"')
    if missing:
        raise NotConfigured(
            f"These variables are to be set before a production deployment is read: "
            f"{', '.join(missing)}. See docs/acceptance.md."
        )
    return Configuration(
        host=environment["POSTHOG_HOST"].rstrip("/"),
        project_id=_number(environment, "POSTHOG_PROJECT_ID"),
        team_id=_number(environment, "LLMA_TEAM_ID"),
        bucket=environment["LLMA_S3_BUCKET"],
        region=environment["AWS_DEFAULT_REGION"],
        s3_endpoint=environment.get("AWS_ENDPOINT_URL") or None,
        delay=_delay(environment.get(DELAY) or DEFAULT_DELAY),
        api_key=environment["POSTHOG_PROJECT_API_KEY"],
        s3_key_id=environment["AWS_ACCESS_KEY_ID"],
        s3_secret=environment["AWS_SECRET_ACCESS_KEY"],
    )


def _number(environment: Mapping[str, str], name: str) -> str:
    """An id, which becomes a part of paths and prefixes: digits, nothing else."""
    text = environment[name]
    if not (text.isascii() and text.isdigit()):
        raise NotConfigured(f"{name} is to be a number.")
    return text


def _delay(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= 60:
        raise NotConfigured(f"{DELAY} is to be a number of seconds, 0 to 60.")
    return seconds
