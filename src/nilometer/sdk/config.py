"""The configuration of the client library: fields, or environment variables."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nilometer.errors import ConfigurationError
from nilometer.sdk.budget_standing import can_be_asked
from nilometer.sdk.sinks.port import Sink

_LOG = logging.getLogger(__name__)

SinkChoice = str | Sink | Sequence[str | Sink] | None

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClientConfig:
    """What a `ClientManager` is made with. Seconds and bytes.

    `sink` is where metrics go: `memory://`, `jsonl:///path`, `http(s)://host:port` (with `api_key`,
    a project key), `dynamodb://table`, a store of one's own, or a list. `spool_dir` is where they
    wait on disk while a store is down, a folder that processes may share; with `spool` False they
    wait in memory only, and end with the process.

    With `hard_stop` no call is made that a used-up budget with a hard stop covers: BudgetExceeded
    is raised in its place. How budgets stand is asked every `budget_check_interval` seconds of
    `budget_check`, by default the first sink that knows (a server or DynamoDB). Where nobody could
    be asked calls are made, with `budget_fail_closed` they are not.
    """

    sink: SinkChoice = None
    api_key: str | None = None
    openai_api_key: str | None = None
    openai_base_url: str | None = None
    anthropic_api_key: str | None = None
    anthropic_base_url: str | None = None
    google_places_api_key: str | None = None
    pinecone_api_key: str | None = None
    pinecone_index_name: str | None = None
    pinecone_host: str | None = None
    track_usage: bool = True
    user_id: str | None = None
    environment: str | None = None
    auto_tags: bool = True
    check_table_name: bool = False
    prices_file: str | Path | None = None
    spool: bool = True
    spool_dir: str | Path | None = None
    spool_bytes: int = 256 * 1024 * 1024
    queue_size: int = 20_000
    queue_bytes: int = 64 * 1024 * 1024
    batch_size: int = 2000
    flush_interval: float = 1.0
    max_retry_attempts: int = 3
    retry_base_delay: float = 1.0
    circuit_breaker_threshold: int = 5
    circuit_breaker_timeout: float = 30.0
    exit_timeout: float = 5.0
    handle_sigterm: bool = True
    hard_stop: bool = False
    budget_check: str | None = None
    budget_check_interval: float = 5.0
    budget_fail_closed: bool = False

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            _check(name, getattr(self, name), 1)
        for name in _NOT_NEGATIVE:
            _check(name, getattr(self, name), 0)
        pinecone = (self.pinecone_api_key, self.pinecone_index_name, self.pinecone_host)
        if any(pinecone) and not all(pinecone):
            raise ConfigurationError(
                "Pinecone needs all of pinecone_api_key, pinecone_index_name and pinecone_host",
                attr="pinecone_api_key",
            )
        if self.track_usage and not self.sinks:
            raise ConfigurationError(
                "nothing says where usage goes: set sink (NILOMETER_SINK), or DYNAMODB_TABLE_NAME, "
                "or turn tracking off (TRACK_AI_USAGE=false)",
                attr="sink",
            )
        self._check_hard_stop()

    def _check_hard_stop(self) -> None:
        if not self.hard_stop:
            return
        if not self.track_usage:
            raise ConfigurationError(
                "the hard stop needs tracking, which is off (TRACK_AI_USAGE)", attr="hard_stop"
            )
        if not self.budget_check_interval > 0:
            raise ConfigurationError(
                "budget_check_interval must be more than 0", attr="budget_check_interval"
            )
        if self.budgets_at is None:
            raise ConfigurationError(
                "nothing says who knows the budgets: set budget_check (NILOMETER_BUDGET_CHECK) to "
                "http(s)://host or dynamodb://table",
                attr="budget_check",
            )

    @property
    def budgets_at(self) -> str | None:
        """Who is asked how budgets stand."""
        if self.budget_check:
            return self.budget_check
        named = (each for each in self.sinks if isinstance(each, str))
        return next(filter(can_be_asked, named), None)

    def __repr__(self) -> str:
        """Without keys."""
        shown = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in shown.items():
            if name.endswith("api_key") and value:
                shown[name] = "***"
        return f"ClientConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def sinks(self) -> tuple[str | Sink, ...]:
        """The sinks, each as it was named."""
        if self.sink is None:
            return ()
        if isinstance(self.sink, Sequence) and not isinstance(self.sink, str):
            return tuple(self.sink)
        return (self.sink,)

    @classmethod
    def from_env(cls, variables: Mapping[str, str] = os.environ, **overrides: Any) -> ClientConfig:
        """From environment variables (docs/usage.md lists them); `overrides` are fields that win.
        Raises ConfigurationError for a value that cannot be read."""
        given: dict[str, Any] = {}
        for variable, (name, read) in _VARIABLES.items():
            text = variables.get(variable, "").strip()
            if text and name not in given:
                given[name] = _read(variable, read, text)
        if "sink" not in given and (sinks := _legacy_sinks(variables)):
            given["sink"] = sinks
        if not given.pop("resilient", True):
            given["spool"] = False
        if not given.pop("batches", True):
            given["batch_size"] = 1
        return cls(**(given | overrides))


_AT_LEAST_ONE = (
    *("queue_size", "queue_bytes", "batch_size", "spool_bytes"),
    *("max_retry_attempts", "circuit_breaker_threshold"),
)
_NOT_NEGATIVE = (
    *("flush_interval", "retry_base_delay", "circuit_breaker_timeout", "exit_timeout"),
    "budget_check_interval",
)


def _check(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
        raise ConfigurationError(f"{name} must be {least} or more", attr=name)


def _flag(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("true or false")


def _sinks(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (each.strip() for each in text.split(","))))


def _read(variable: str, read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError:
        raise ConfigurationError(
            f"{variable} cannot be read: it must be {_EXPECTED.get(read, 'a text')}", attr=variable
        ) from None


def _legacy_sinks(variables: Mapping[str, str]) -> tuple[str, ...]:
    """What the original tracker's variables say: a table, and perhaps a file."""
    table = variables.get("DYNAMODB_TABLE_NAME", "").strip()
    if not table and (table := variables.get("DYNAMO_TABLE_NAME", "").strip()):
        _LOG.warning("DYNAMO_TABLE_NAME is deprecated; set DYNAMODB_TABLE_NAME")
    found = (f"dynamodb://{table}",) if table else ()
    if _read("TRACK_TO_FILE", _flag, variables.get("TRACK_TO_FILE", "").strip() or "false"):
        file = variables.get("TRACK_FILE", "").strip() or "ai_usage.jsonl"
        found += (f"jsonl://{Path(file).absolute()}",)
    return found


_EXPECTED: Mapping[Callable[[str], Any], str] = {
    int: "a whole number",
    float: "a number",
    _flag: "true or false",
}
_VARIABLES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "NILOMETER_SINK": ("sink", _sinks),
    "NILOMETER_API_KEY": ("api_key", str),
    "OPENAI_API_KEY": ("openai_api_key", str),
    "OPENAI_BASE_URL": ("openai_base_url", str),
    "ANTHROPIC_API_KEY": ("anthropic_api_key", str),
    "ANTHROPIC_BASE_URL": ("anthropic_base_url", str),
    "GOOGLE_PLACES_API_KEY": ("google_places_api_key", str),
    "PINECONE_API_KEY": ("pinecone_api_key", str),
    "PINECONE_INDEX_NAME": ("pinecone_index_name", str),
    "PINECONE_HOST": ("pinecone_host", str),
    "TRACK_AI_USAGE": ("track_usage", _flag),
    "USER_ID": ("user_id", str),
    "NILOMETER_AUTO_TAGS": ("auto_tags", _flag),
    "NILOMETER_CHECK_TABLE_NAME": ("check_table_name", _flag),
    "NILOMETER_PRICES_FILE": ("prices_file", str),
    "NILOMETER_SPOOL_DIR": ("spool_dir", str),
    "NILOMETER_SPOOL_BYTES": ("spool_bytes", int),
    "NILOMETER_QUEUE_SIZE": ("queue_size", int),
    "NILOMETER_EXIT_TIMEOUT": ("exit_timeout", float),
    "USE_RESILIENT_TRACKER": ("resilient", _flag),
    "ENABLE_BATCH_PROCESSING": ("batches", _flag),
    "BATCH_SIZE": ("batch_size", int),
    "BATCH_FLUSH_INTERVAL": ("flush_interval", float),
    "MAX_RETRY_ATTEMPTS": ("max_retry_attempts", int),
    "RETRY_BASE_DELAY": ("retry_base_delay", float),
    "CIRCUIT_BREAKER_THRESHOLD": ("circuit_breaker_threshold", int),
    "CIRCUIT_BREAKER_TIMEOUT": ("circuit_breaker_timeout", float),
    "NILOMETER_HARD_STOP": ("hard_stop", _flag),
    "NILOMETER_BUDGET_CHECK": ("budget_check", str),
    "NILOMETER_BUDGET_CHECK_INTERVAL": ("budget_check_interval", float),
    "NILOMETER_BUDGET_FAIL_CLOSED": ("budget_fail_closed", _flag),
}
VARIABLES = (
    *_VARIABLES,
    *("ENVIRONMENT", "DYNAMODB_TABLE_NAME", "DYNAMO_TABLE_NAME", "TRACK_TO_FILE", "TRACK_FILE"),
)
"""Every variable that `from_env`, or the detection of the environment, is told by."""
