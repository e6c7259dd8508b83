"""What Nilometer does with what it has: prices, budgets, exceptions, notifications."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings


def read_weights(text: str) -> dict[int, int]:
    """The weight of each project that is named, `7=4, 12=2`. Raises ValueError."""
    weights: dict[int, int] = {}
    for each in filter(None, (part.strip() for part in text.split(","))):
        project, _, weight = each.partition("=")
        if not (project.strip().isdecimal() and weight.strip().isdecimal()):
            raise ValueError("give projects and their weights such as 7=4, with commas between")
        weights[int(project)] = int(weight)
    if not all(1 <= weight <= 1000 for weight in weights.values()):
        raise ValueError("a weight is from 1 to 1000")
    return weights


class OperationSettings(BaseSettings):
    """How often it looks, how much may wait, and where it may send."""

    prices_file: Path | None = Field(
        None, description="Own prices for all projects, TOML or JSON; see docs/prices.md."
    )
    prices_refresh: float = Field(
        0,
        ge=0,
        description="Between two fetches of newer prices from the network; 0 never asks it.",
    )
    prices_url: str | None = Field(
        None, description="A mirror to fetch them from, in place of the book's own address."
    )

    budget_check_seconds: float = Field(
        1,
        ge=0,
        le=60,
        description="For how long a process that does not store usage itself may give one answer "
        "to checks of budgets again.",
    )

    alert_rule_seconds: float = Field(
        30,
        ge=0.1,
        le=3600,
        description="Seconds between two looks by alert rules; more where a look takes long.",
    )

    exception_backlog: int = Field(
        50_000,
        gt=0,
        description="How many tasks of one project's exceptions may wait. Beyond it no more are "
        "accepted, with 429 and `Retry-After`; other projects are.",
    )

    task_lease: float = Field(
        30,
        ge=2,
        description="For how long a worker that is heard of no more keeps its tasks. Longer than "
        "the clocks of workers differ.",
    )
    tool_concurrency: int = Field(
        64,
        ge=2,
        le=1000,
        description="Tools of exceptions that one worker calls at once; a project gets half.",
    )

    exception_weights: str = Field(
        "",
        description="Projects that get more of the workers than others while many wait: `7=4, "
        "12=2`. A project that is not named has 1.",
    )

    notification_networks: str = Field(
        "",
        description="Private networks that notifications and tools may go to, with commas between: "
        "10.0.0.0/8, fd00::/8. Without any they go to public addresses alone, and with TLS.",
    )
    notification_sns_topics: str = Field(
        "",
        description="SNS topics that every project may publish to with the server's own AWS "
        "credentials: ARNs, * stands for anything, with commas between.",
    )
    notification_sns_endpoint: str | None = Field(
        None, description="An SNS server other than Amazon's."
    )

    @field_validator("notification_networks")
    @classmethod
    def _check_networks(cls, text: str) -> str:
        for each in filter(None, (part.strip() for part in text.split(","))):
            try:
                ip_network(each)
            except ValueError:
                raise ValueError("give networks such as 10.0.0.0/8, with commas between") from None
        return text

    @field_validator("exception_weights")
    @classmethod
    def _check_weights(cls, text: str) -> str:
        read_weights(text)
        return text
