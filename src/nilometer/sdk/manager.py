"""One manager a process: its clients, wrapped, its tracker, and the delivery behind them."""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from nilometer.errors import ConfigurationError
from nilometer.sdk import context
from nilometer.sdk.assembly import Assembler
from nilometer.sdk.budget_guard import BudgetGuard
from nilometer.sdk.calculator import CostCalculator
from nilometer.sdk.config import ClientConfig
from nilometer.sdk.delivery import ending
from nilometer.sdk.delivery.delivery import Delivery, Destination, Limits
from nilometer.sdk.delivery.ledger import Stats
from nilometer.sdk.environment import check_table_name, environment
from nilometer.sdk.scopes import KEEP, Kept, Scopes
from nilometer.sdk.sinks.opening import identity, open_sink
from nilometer.sdk.sinks.port import Sink
from nilometer.sdk.tracker import AIUsageTracker

if TYPE_CHECKING:
    import anthropic
    import openai

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

_FLUSH_SECONDS = 5.0
_FIRST_ANSWER_SECONDS = 2.0


class ClientManager:
    """Clients whose calls are tracked. Safe between threads; each client is made once, when it is
    first asked for.

        manager = ClientManager(ClientConfig(sink="jsonl:///var/log/usage.jsonl"))
        with usage_context(job_id="nightly"):
            manager.openai.chat.completions.create(model="gpt-4o-mini", messages=[…])
        manager.flush(timeout=5)
    """

    def __init__(self, config: ClientConfig | None = None) -> None:
        self.config = config = ClientConfig.from_env() if config is None else config
        self.environment = environment(config.environment, tagged=config.auto_tags)
        self.calculator = CostCalculator(config.prices_file)
        self._lock = threading.RLock()
        self._clients: dict[str, Any] = {}
        self._delivery = self._deliver() if config.track_usage else None
        self._guard = self._guarded() if config.hard_stop else None
        self.tracker = AIUsageTracker(self._delivery, self._guard)

    @property
    def openai(self) -> openai.OpenAI:
        """OpenAI's client."""
        return self._client("openai", self._openai)

    @property
    def async_openai(self) -> openai.AsyncOpenAI:
        """OpenAI's asynchronous client."""
        return self._client("async_openai", lambda: self._openai("AsyncOpenAI"))

    @property
    def anthropic(self) -> anthropic.Anthropic:
        """Anthropic's client."""
        return self._client("anthropic", self._anthropic)

    @property
    def async_anthropic(self) -> anthropic.AsyncAnthropic:
        """Anthropic's asynchronous client."""
        return self._client("async_anthropic", lambda: self._anthropic("AsyncAnthropic"))

    @property
    def google_places(self) -> Any:
        """`googlemaps.Client`, of which the Places calls are tracked."""
        return self._client("google_places", self._google_places)

    @property
    def pinecone(self) -> Any:
        """The Pinecone index of the three settings; its calls are not tracked."""
        return self._client("pinecone", self._pinecone)

    @property
    def usage_tracker(self) -> AIUsageTracker | None:
        """The tracker, None when tracking is off (the original's name for it)."""
        return None if self._delivery is None else self.tracker

    @property
    def sinks(self) -> Sequence[Sink]:
        """The stores, opened."""
        return [] if self._delivery is None else self._delivery.sinks

    def wrap(self, client: C) -> C:
        """The caller's own client, tracked: one of OpenAI, Anthropic or Google. It comes back as it
        is when tracking is off. Raises TypeError for a client that no adapter knows."""
        if self._delivery is None:
            return client
        integrations = importlib.import_module("nilometer.integrations")
        return integrations.wrap(client, self.tracker)

    def set_tracking_context(
        self,
        job_id: str | Kept | None = KEEP,
        batch_id: str | Kept | None = KEEP,
        user_id: str | Kept | None = KEEP,
    ) -> None:
        """Set scopes for this thread or task, from here on; None clears. `usage_context` is better:
        it ends."""
        context.set_scopes({"job_id": job_id, "batch_id": batch_id, "user_id": user_id})

    def get_all_clients(self) -> dict[str, Any]:
        """Every client that the configuration has what it needs for, made if need be."""
        config = self.config
        wanted = {
            "openai": config.openai_api_key,
            "anthropic": config.anthropic_api_key,
            "google_places": config.google_places_api_key,
            "pinecone": config.pinecone_api_key,
        }
        return {name: getattr(self, name) for name, key in wanted.items() if key}

    def stats(self) -> Stats:
        """Where every metric is: for each store, submitted + adopted = waiting + spooled + stored +
        dropped, always."""
        return Stats(0, {}) if self._delivery is None else self._delivery.stats()

    def flush(self, timeout: float = _FLUSH_SECONDS) -> bool:
        """Send what there is, within so many seconds. True when nothing is left behind; else the
        rest is on disk or on its way there, and will be sent by this process or the next."""
        return True if self._delivery is None else self._delivery.flush(timeout)

    def flushed(
        self, handler: Callable[P, R] | None = None, *, timeout: float = _FLUSH_SECONDS
    ) -> Any:
        """For AWS Lambda and its like, which stop a process between calls: a decorator of the
        handler that flushes at its end, however it ends."""
        if handler is None:
            return lambda given: self.flushed(given, timeout=timeout)  # pyright: ignore

        @wraps(handler)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return handler(*args, **kwargs)
            finally:
                self.flush(timeout)

        return wrapper

    def refresh_budgets(self) -> bool:
        """Ask now how budgets stand, in this thread: False when no answer came, or no hard stop is
        on. Else it is asked in the background."""
        return self._guard is not None and self._guard.refresh()

    def close(self, timeout: float | None = None) -> bool:
        """Flush and end. What cannot be sent stays on disk for the next process; False then."""
        if self._guard is not None:
            self._guard.close()
        if self._delivery is None:
            return True
        done = self._delivery.close(self.config.exit_timeout if timeout is None else timeout)
        ending.unwatch(self._delivery)  # not before: a signal may end the process on the way
        return done

    def __enter__(self) -> ClientManager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _deliver(self) -> Delivery:
        config = self.config
        destinations = self._destinations()  # a wrong one shows here
        wants_prices = any(each.sink.wants_prices for each in destinations)
        if wants_prices or config.hard_stop:
            self.calculator.check()  # and so does a wrong file of prices
        assembler = Assembler(self._scopes(), self.calculator if wants_prices else None)
        opened = [destinations]
        delivery = Delivery(
            lambda: opened.pop() if opened else self._destinations(), assembler, limits(config)
        )
        ending.watch(delivery, sigterm=config.handle_sigterm)
        return delivery

    def _guarded(self) -> BudgetGuard:
        """Who keeps calls from being made. The first answer is waited for here, a little, so that
        no call has to."""
        from nilometer.sdk.budget_sources import open_standings  # with what it asks by

        config, process = self.config, self._scopes()
        place, key = config.budgets_at or "", config.api_key
        guard = BudgetGuard(
            lambda: open_standings(place, key),
            process,
            Assembler(process, self.calculator),
            interval=config.budget_check_interval,
            fail_closed=config.budget_fail_closed,
        )
        guard.start(_FIRST_ANSWER_SECONDS)
        return guard

    def _scopes(self) -> Scopes:
        own = {} if self.config.user_id is None else {"user_id": self.config.user_id}
        return self.environment.scopes().changed(own)

    def _destinations(self) -> list[Destination]:
        found = [self._destination(each) for each in self.config.sinks]
        names = [each.sink.name for each in found]
        if len({*names}) < len(names):
            raise ConfigurationError(f"a sink is named twice: {', '.join(names)}", attr="sink")
        return found

    def _destination(self, choice: str | Sink) -> Destination:
        config = self.config
        if not isinstance(choice, str):
            return Destination(choice, self._spool(choice.name))
        if config.check_table_name and choice.startswith("dynamodb://"):
            table = choice.removeprefix("dynamodb://").partition("?")[0]
            check_table_name(table, self.environment.name)
        spool = None if choice.startswith("memory:") else self._spool(choice)
        return Destination(open_sink(choice, config.api_key), spool)

    def _spool(self, name: str) -> Path | None:
        if not self.config.spool:
            return None
        folder = self.config.spool_dir or default_spool_dir()
        return Path(folder) / identity(name, self.config.api_key)

    def _client(self, name: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if name not in self._clients:
                self._clients[name] = make()
            return self._clients[name]

    def _openai(self, kind: str = "OpenAI") -> Any:
        config = self.config
        client = getattr(_library("openai"), kind)
        return self.wrap(client(api_key=config.openai_api_key, base_url=config.openai_base_url))

    def _anthropic(self, kind: str = "Anthropic") -> Any:
        config = self.config
        client = getattr(_library("anthropic"), kind)
        return self.wrap(
            client(api_key=config.anthropic_api_key, base_url=config.anthropic_base_url)
        )

    def _google_places(self) -> Any:
        return self.wrap(_library("googlemaps").Client(key=self.config.google_places_api_key))

    def _pinecone(self) -> Any:
        config = self.config
        if not config.pinecone_api_key:
            raise ConfigurationError(
                "Pinecone needs PINECONE_API_KEY, PINECONE_INDEX_NAME and PINECONE_HOST",
                attr="pinecone_api_key",
            )
        service = _library("pinecone").Pinecone(api_key=config.pinecone_api_key)
        return service.Index(config.pinecone_index_name, host=config.pinecone_host)


def default_spool_dir() -> Path:
    """`$XDG_STATE_HOME/nilometer/spool`, by default under ~/.local/state; where nobody has a home
    to write to (AWS Lambda), a folder of the user's in the directory of temporary files."""
    try:
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:
        return _temporary()
    existing = next(each for each in (home, *home.parents) if each.exists())
    return home / "nilometer" / "spool" if os.access(existing, os.W_OK) else _temporary()


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"nilometer-{os.getuid()}" / "spool"


def limits(config: ClientConfig) -> Limits:
    """What a configuration says of a delivery."""
    return Limits(
        queue_size=config.queue_size,
        queue_bytes=config.queue_bytes,
        batch_size=config.batch_size,
        flush_interval=config.flush_interval,
        max_attempts=config.max_retry_attempts,
        retry_base_delay=config.retry_base_delay,
        breaker_threshold=config.circuit_breaker_threshold,
        breaker_timeout=config.circuit_breaker_timeout,
        spool_bytes=config.spool_bytes,
        exit_timeout=config.exit_timeout,
    )


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigurationError(f"the package {name!r} is not installed") from None
