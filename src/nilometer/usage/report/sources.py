"""Where a report's numbers come from: stores that answer the aggregation contract.

All answer with the same JSON (docs/usage-api.md), so that a report of the same calls is the same
from each of them.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qsl, urlsplit

from nilometer.domain import clock
from nilometer.errors import ConfigurationError, InvalidInput, Unavailable
from nilometer.usage import answers, savings
from nilometer.usage.jsonl import JsonlUsage
from nilometer.usage.prices import local_rates
from nilometer.usage.query import parse
from nilometer.usage.savings import Savings

KINDS = "http(s)://host, dynamodb://table, jsonl:///path"
MAX_SINGLE = 200_000
"""Calls that are read one by one for what only a call can tell, before that is given up."""
MAX_GROUPS = 200_000
"""Groups of one table of a report."""

Json = dict[str, Any]
Parameters = Mapping[str, str]


class Source(Protocol):
    """A store that answers. `name` is safe to show: it holds no key."""

    name: str

    def ask(self, parameters: Parameters) -> Json:
        """The answer of the contract to a request's parameters, as new as the store. Raises
        InvalidInput for parameters that cannot be, and NilometerError when it cannot be asked."""
        ...

    def savings(self, parameters: Parameters) -> Json | None:
        """What caches and batches saved (`usage.savings.answer`), of the days and filters of the
        parameters; None where the store cannot tell of so many calls."""
        ...

    def notes(self) -> list[str]:
        """What who reads the numbers should know of this store: sentences."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class JsonlSource:
    """`jsonl:///path`: the file of the client library, from the day `since` on."""

    def __init__(self, path: Path, since: date, prices_file: Path | None) -> None:
        self.name = f"jsonl://{path}"
        self._file = JsonlUsage(path, since)
        self._rates_of = local_rates(prices_file)

    def ask(self, parameters: Parameters) -> Json:
        """As the protocol says."""
        self._file.refresh()
        query = parse(_each(parameters), today=clock.now().date())
        return answers.answer(query, self._file.ledger.groups(query))

    def savings(self, parameters: Parameters) -> Json | None:
        """As the protocol says."""
        self._file.refresh()
        query = savings.parse_savings(_each(parameters), today=clock.now().date())
        return savings.answer(self._file.ledger.savings(query), self._rates_of)

    def notes(self) -> list[str]:
        """How many lines could not be read."""
        count = self._file.unreadable
        return [f"{count:,} lines of the file are no metrics and are not counted."] if count else []

    def close(self) -> None:
        """Nothing is open."""


class DynamoSource:
    """`dynamodb://table?region=…&endpoint_url=…`: the client library's table."""

    def __init__(self, parts: SplitResult, prices_file: Path | None) -> None:
        from nilometer.dynamodb import client
        from nilometer.dynamodb.reader import Reader

        if not parts.netloc:
            raise ConfigurationError("dynamodb:// needs a table: dynamodb://table", attr="source")
        options = dict(parse_qsl(parts.query))
        region, endpoint = options.pop("region", None), options.pop("endpoint_url", None)
        if options:
            raise ConfigurationError(
                "the options of dynamodb:// are region and endpoint_url", attr="source"
            )
        self.name = f"dynamodb://{parts.netloc}"
        self._client = client
        self._dynamodb = client.connect(region=region, endpoint_url=endpoint)
        self._reader = Reader(self._dynamodb, parts.netloc)
        self._rates_of = local_rates(prices_file)

    def ask(self, parameters: Parameters) -> Json:
        """As the protocol says. Raises Unavailable when DynamoDB refuses."""
        query = parse(_each(parameters), today=clock.now().date())
        with self._asking():
            return answers.answer(query, self._reader.groups(query))

    def savings(self, parameters: Parameters) -> Json | None:
        """As the protocol says: call by call, so not where more than `MAX_SINGLE` would be read."""
        query = savings.parse_savings(_each(parameters), today=clock.now().date())
        found = Savings()
        try:
            with self._asking():
                for each in self._reader.metrics(query.start, query.end, query.filters, MAX_SINGLE):
                    found.add(savings.of_metric(each))
        except InvalidInput as error:
            if error.code != "too_many_calls":
                raise
            return None
        return savings.answer(found, self._rates_of)

    def notes(self) -> list[str]:
        """What the table's design implies."""
        return []

    def close(self) -> None:
        """End the reader's threads, and let go of the connections."""
        self._reader.close()
        self._dynamodb.close()

    @contextmanager
    def _asking(self) -> Generator[None]:
        try:
            yield
        except Exception as error:
            if not self._client.is_botocore(error):
                raise
            raise Unavailable(f"DynamoDB: {self._client.explained(error)}") from None


def open_local(url: str, *, since: date, prices_file: Path | None = None) -> Source:
    """The source of a URL that is no server's. Raises ConfigurationError for one that is none."""
    parts = urlsplit(url)
    match parts.scheme:
        case "jsonl":
            path = parts.path if not parts.netloc else f"{parts.netloc}{parts.path}"
            if not path.strip("/"):
                raise ConfigurationError(f"{url!r} names no file: jsonl:///path", attr="source")
            return JsonlSource(Path(path), since, prices_file)
        case "dynamodb":
            return DynamoSource(parts, prices_file)
        case _:
            raise ConfigurationError(f"{url!r} is no source; there are {KINDS}", attr="source")


def pages(source: Source, parameters: Parameters, limit: int = 10_000) -> tuple[Json, list[Json]]:
    """The answer to a `group_by`, with the groups of all its pages."""
    asked = {**parameters, "limit": str(limit)}
    first = answer = source.ask(asked)
    found: list[Json] = list(answer["groups"]["results"])
    while cursor := answer["groups"]["next_cursor"]:
        if len(found) >= MAX_GROUPS:
            raise InvalidInput(
                f"There are more than {MAX_GROUPS:,} groups; ask for fewer days, levels or filters "
                "at once.",
                code="too_many_groups",
            )
        answer = source.ask({**asked, "cursor": cursor})
        found += answer["groups"]["results"]
    return first, found


def _each(parameters: Parameters) -> dict[str, list[str]]:
    return {name: [value] for name, value in parameters.items()}
