"""From what a configuration names to the store that it means."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from nilometer.errors import ConfigurationError
from nilometer.sdk.sinks.port import Sink

_KINDS = "memory://, jsonl:///path, http(s)://host, dynamodb://table"


def open_sink(url: str, api_key: str | None) -> Sink:
    """The store of a URL. Raises ConfigurationError for one that is none, or lacks what it needs.
    Modules of a kind are loaded when one is opened."""
    parts = urlsplit(url)
    match parts.scheme:
        case "memory":
            from nilometer.sdk.sinks.memory import MemorySink

            return MemorySink(url)
        case "jsonl":
            return _jsonl(url, parts)
        case "http" | "https":
            return _http(url, api_key)
        case "dynamodb":
            return _dynamodb(parts)
        case _:
            raise ConfigurationError(f"{url!r} is no sink; there are {_KINDS}", attr="sink")


def identity(url: str, api_key: str | None) -> str:
    """A name for a folder: what one project's key was to send, no other key's process sends."""
    return hashlib.sha256(f"{url}\n{api_key or ''}".encode()).hexdigest()[:24]


def _jsonl(url: str, parts: SplitResult) -> Sink:
    from nilometer.sdk.sinks.jsonl import ROTATE_BYTES, JsonlSink

    path = parts.path if not parts.netloc else f"{parts.netloc}{parts.path}"
    if not path.strip("/"):
        raise ConfigurationError(f"{url!r} names no file: jsonl:///path", attr="sink")
    options = dict(parse_qsl(parts.query))
    try:
        rotate, keep = int(options.pop("rotate", ROTATE_BYTES)), int(options.pop("keep", 0))
    except ValueError:
        raise ConfigurationError(
            f"{url!r}: rotate (bytes) and keep (files) are whole numbers", attr="sink"
        ) from None
    if options or rotate <= 0 or keep < 0:
        raise ConfigurationError(f"{url!r}: the options are rotate and keep", attr="sink")
    return JsonlSink(Path(path), rotate=rotate, keep=keep)


def _http(url: str, api_key: str | None) -> Sink:
    if not api_key:
        raise ConfigurationError(f"{url!r} needs api_key, a project key", attr="api_key")
    from nilometer.sdk.sinks.http import HttpSink

    return HttpSink(url, api_key)


def _dynamodb(parts: SplitResult) -> Sink:
    if not parts.netloc:
        raise ConfigurationError("dynamodb:// needs a table: dynamodb://table", attr="sink")
    options = dict(parse_qsl(parts.query))
    region, endpoint = options.pop("region", None), options.pop("endpoint_url", None)
    if options:
        raise ConfigurationError(
            "the options of dynamodb:// are region and endpoint_url", attr="sink"
        )
    try:
        from nilometer.dynamodb.sink import DynamoSink
    except ImportError:
        raise ConfigurationError(
            "dynamodb:// needs boto3: pip install 'nilometer[dynamodb]'", attr="sink"
        ) from None
    return DynamoSink(parts.netloc, region=region, endpoint_url=endpoint)
