"""Where the commands about usage read: a server, DynamoDB, or a file of the client library."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from nilometer.cli.client import Client, connected
from nilometer.domain import clock
from nilometer.usage.dimensions import FILTERS

if TYPE_CHECKING:
    from nilometer.usage.report.sources import Source

SourceUrl = Annotated[
    str | None,
    typer.Option(
        "--source",
        envvar="NILOMETER_USAGE_SOURCE",
        show_envvar=True,
        metavar="URL",
        help="dynamodb://TABLE?region=…, jsonl:///PATH or a server's URL; by default the server "
        "of --url.",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="LEVEL=VALUE",
        help="Only calls with exactly this value; repeat for several. "
        f"Levels: {', '.join(FILTERS)}.",
    ),
]
PricesFile = Annotated[
    Path | None,
    typer.Option(
        envvar="NILOMETER_PRICES_FILE",
        help="Your own prices, for savings of batches from DynamoDB and files.",
        dir_okay=False,
    ),
]


class ServerSource:
    """A running server, asked over its API with a personal key."""

    def __init__(self, name: str, client: Client, project: str) -> None:
        self.name = name
        self._client = client
        self._path = f"/api/projects/{project}/usage/"

    def ask(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """As `usage.report.sources.Source` says."""
        return json.loads(self._client.get(self._path, parameters))

    def savings(self, parameters: Mapping[str, str]) -> dict[str, Any] | None:
        """As `usage.report.sources.Source` says."""
        return json.loads(self._client.get(f"{self._path}savings/", parameters))

    def notes(self) -> list[str]:
        """Nothing besides what the numbers say."""
        return []

    def close(self) -> None:
        """The client is closed by who opened it."""


@contextmanager
def opened(
    source: str | None,
    url: str,
    key: str | None,
    project: str,
    *,
    since: date,
    prices_file: Path | None = None,
) -> Generator[Source]:
    """The source for the length of the block; `since` is the first day that will be asked for.
    Raises ConfigurationError."""
    parts = urlsplit(source or url)
    if source is None or parts.scheme in ("http", "https"):
        with connected(source or url, key) as client:
            # Without what may be a password in the URL.
            host = parts.netloc.rpartition("@")[2]
            yield ServerSource(f"{parts.scheme}://{host}", client, project)
        return
    from nilometer.usage.report.sources import open_local

    with closing(open_local(source, since=since, prices_file=prices_file)) as found:
        yield found


def filters(given: list[str] | None) -> dict[str, str]:
    """The filters of `--where`."""
    found: dict[str, str] = {}
    for each in given or []:
        name, equals, value = each.partition("=")
        if not equals or name not in FILTERS or name in found:
            raise typer.BadParameter(
                f"--where takes LEVEL=VALUE, each level once: {', '.join(FILTERS)}"
            )
        found[name] = value
    return found


def day(text: str | None, option: str, otherwise: date) -> date:
    """A date such as 2026-11-01, `today`, `yesterday`, or `30d`: so many days ago; UTC."""
    today = clock.now().date()
    match text:
        case None:
            return otherwise
        case "today":
            return today
        case "yesterday":
            return today - timedelta(days=1)
        case _:
            pass
    if text.endswith("d") and text[:-1].isascii() and text[:-1].isdigit() and len(text) < 6:
        return today - timedelta(days=int(text[:-1]))
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007  (a day of UTC)
    except ValueError:
        raise typer.BadParameter(
            f"{option} takes a date such as 2026-11-01, today, yesterday, or 30d"
        ) from None
