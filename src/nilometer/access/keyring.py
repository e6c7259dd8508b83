"""Who a token stands for: answered from memory while that may be trusted, else from the database.

One staleness rule, for keys and for the projects' rules that come with them:

- An answer is good for `fresh_seconds` (5). A key revoked, or a rule changed, by any process takes
  effect within that time. From half of it on a use refreshes the answer in the background, so a
  key in steady use never waits for the database.
- While the database is away, a known key goes on for `stale_seconds` (10 minutes) after it was
  last seen there. After that, and for any other key at once, the answer is AccessUnavailable: it
  is never "unknown key" when nobody could look. Away is also a database that hangs: who has a known
  key waits a second for its answer, and nobody waits for the same look-up after that.
- What an address sends once it has spent its allowance of wrong keys is looked up in a line of its
  own, by one thread: however long that line is, no other address waits behind it.
- A refused token is remembered for `fresh_seconds` too, at most `max_unknown` of them. A new key
  works at once all the same, because nobody can have tried a random token before it existed.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import select

from nilometer.access import tokens
from nilometer.access.guessing import GuessLimiter
from nilometer.access.tables import MAX_PROJECT_ID, ApiKey, Project
from nilometer.access.types import (
    AccessUnavailable,
    KeyKind,
    Principal,
    ProjectConfig,
    Scope,
    TooManyGuesses,
    UnknownKey,
)
from nilometer.database.engine import Database, DatabaseUnavailable
from nilometer.database.fence import EVERY_ROW, rows_of_organization
from nilometer.domain.redaction.reading import InvalidRules, read_rules
from nilometer.domain.redaction.redactor import redactor_of
from nilometer.domain.redaction.rules import UNREADABLE, RedactionRules
from nilometer.errors import NotFound

MAX_KNOWN = 100_000
"""Keys kept in memory; beyond it the one not checked for longest is forgotten."""

_RETRY_SECONDS = 1.0
_PATIENCE_SECONDS = 1.0
_LOOKUP_THREADS = 4
# Looked up in less than a second; more can only wait for a database that hardly answers.
_LONGEST_LINE = 1000

_logger = logging.getLogger(__name__)
_V = TypeVar("_V")


@dataclass(slots=True)
class _Known:
    """A key as the database had it at `checked_at`; used after `refresh_after`, it is renewed."""

    principal: Principal
    checked_at: float
    refresh_after: float


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one look-up found. `principal` None means no such key; only if it was `reached`."""

    reached: bool
    principal: Principal | None = None


class Keyring:
    """Authenticates tokens. Safe to use from the event loop and from threads at once.

    Times are seconds of `clock`, which must never go back. `default_retention_days` is for
    projects that set none.
    """

    def __init__(
        self,
        database: Database,
        *,
        default_retention_days: int,
        fresh_seconds: float = 5,
        stale_seconds: float = 600,
        max_unknown: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        guesses: GuessLimiter | None = None,
    ) -> None:
        self._database = database
        self._guesses = guesses or GuessLimiter()
        self._default_retention_days = default_retention_days
        self._fresh = fresh_seconds
        self._stale = stale_seconds
        self._max_unknown = max_unknown
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._unknown: dict[str, float] = {}
        self._flights: dict[str, Future[_Answer]] = {}
        self._failed_at: float | None = None
        self._probe: Future[_Answer] | None = None
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="keyring")
        self._line = ThreadPoolExecutor(1, thread_name_prefix="keyring-line")
        self._line_room = threading.Semaphore(_LONGEST_LINE)

    def cached(self, token: str) -> Principal | None:
        """The token's principal while it is fresh, else None. Never blocks; about 1 µs."""
        try:
            digest = tokens.digest(token)
        except ValueError:
            return None
        known = self._known.get(digest)
        if known is None:
            return None
        now = self._clock()
        if now - known.checked_at >= self._fresh:
            return None
        if now >= known.refresh_after:
            known.refresh_after = now + _RETRY_SECONDS
            self._start(digest)
        return known.principal

    async def admit(self, token: str, address: str) -> Principal:
        """As `authenticate`, for a request that came from this address: what the doors call.

        Raises TooManyGuesses for a wrong token, or one that an operator chose, when it is new to
        an address from which too many wrong ones came; see `guessing`.
        """
        if self._guesses.known(address, token):
            return self.cached(token) or await self.authenticate(token)
        throttled = self._guesses.begin(address)
        if throttled:
            return await self._admit_in_line(token, address, throttled)
        guess: bool | None = None
        try:
            principal = await self.authenticate(token)
            guess = False
        except UnknownKey:
            guess = True
            raise
        finally:
            self._guesses.end(address, token, guess=guess)
        return principal

    async def _admit_in_line(
        self, token: str, address: str, throttled: TooManyGuesses
    ) -> Principal:
        """As `admit`, for an address whose allowance is spent. A wrong token is not remembered:
        it must not push out those that were."""
        if not tokens.is_issued_shape(token) or not self._line_room.acquire(blocking=False):
            raise throttled
        # A look-up goes on when its client has gone, so it holds its room until it ends.
        looking = asyncio.ensure_future(self.authenticate(token, in_line=True))
        looking.add_done_callback(self._leave_line)
        try:
            principal = await asyncio.shield(looking)
        except UnknownKey:
            raise throttled from None
        self._guesses.remember(address, token)
        return principal

    def _leave_line(self, looking: asyncio.Future[Principal]) -> None:
        self._line_room.release()
        if not looking.cancelled():
            looking.exception()  # taken note of, should nobody be there any more

    async def authenticate(self, token: str, *, in_line: bool = False) -> Principal:
        """The token's principal, from memory or by one look-up that all callers share.

        Raises UnknownKey (also for a revoked key, and one of a project being deleted) and
        AccessUnavailable. `in_line` looks after all others of the same.
        """
        principal = self.cached(token)
        if principal is not None:
            return principal
        digest = _digest(token)
        principal = self._without_looking(digest)
        if principal is not None:
            return principal
        flight = self._start(digest, self._line if in_line else self._threads)
        # Waiting in the line says nothing of the database.
        patience = None if in_line else self._patience(digest)
        # Shielded: a client that hangs up must not cancel what others wait for.
        looking = asyncio.shield(asyncio.wrap_future(flight))
        try:
            answer = await asyncio.wait_for(looking, patience)
        except TimeoutError:
            answer = self._hangs(flight)
        return self._decide(digest, answer)

    def authenticate_blocking(self, token: str) -> Principal:
        """As `authenticate`, for a caller in a plain thread."""
        principal = self.cached(token)
        if principal is not None:
            return principal
        digest = _digest(token)
        principal = self._without_looking(digest)
        if principal is not None:
            return principal
        flight = self._start(digest)
        try:
            answer = flight.result(self._patience(digest))
        except TimeoutError:
            answer = self._hangs(flight)
        return self._decide(digest, answer)

    def project_blocking(self, principal: Principal, project_id: int) -> ProjectConfig:
        """The rules of a project that this principal may act on, within its scopes.

        That is its own project, and for a personal key every project of its organization. Raises
        NotFound, the same for a project of others and for none, and AccessUnavailable.
        """
        if project_id == principal.project.project_id:
            return principal.project
        if principal.kind is not KeyKind.PERSONAL or not 1 <= project_id <= MAX_PROJECT_ID:
            raise NotFound("there is no such project")
        query = select(Project).where(
            Project.id == project_id,
            Project.organization_id == principal.organization_id,
            Project.tombstoned_at.is_(None),
        )
        try:
            with self._database.read(rows_of_organization(principal.organization_id)) as session:
                project = session.scalar(query)
        except DatabaseUnavailable as error:
            raise _unavailable() from error
        if project is None:
            raise NotFound("there is no such project")
        return self._config(project)

    def close(self) -> None:
        """End the look-up threads. Fresh answers stay; every other key is AccessUnavailable."""
        self._line.shutdown(wait=True, cancel_futures=False)
        self._threads.shutdown(wait=True, cancel_futures=False)

    def _without_looking(self, digest: str) -> Principal | None:
        """What can be said at once of a token that is not fresh; None when one has to look.

        Raises UnknownKey for one just refused. While the database is known to be down, known keys
        go on and others raise AccessUnavailable; once a second, one look-up tries again.
        """
        now = self._clock()
        refused_at = self._unknown.get(digest)
        if refused_at is not None and now - refused_at < self._fresh:
            raise _unknown()
        failed_at = self._failed_at
        if failed_at is None:
            return None
        # Down means: a look-up failed just now, or the next attempt has not come back since. An
        # older failure proves nothing about a key revoked since.
        probing = self._probe is not None and not self._probe.done()
        if not probing and now - failed_at >= self._fresh:
            return None
        if not probing and now - failed_at >= _RETRY_SECONDS:
            self._probe = self._start(digest)
        return self._trusted(digest, now)

    def _trusted(self, digest: str, now: float) -> Principal:
        known = self._known.get(digest)
        if known is None or now - known.checked_at > self._stale:
            raise _unavailable()
        return known.principal

    def _patience(self, digest: str) -> float | None:
        """For how many seconds to wait for a look-up: a key that is not known has to."""
        known = self._known.get(digest)
        trusted = known is not None and self._clock() - known.checked_at <= self._stale
        return _PATIENCE_SECONDS if trusted else None

    def _hangs(self, flight: Future[_Answer]) -> _Answer:
        """Take the database for away until this look-up comes back."""
        with self._lock:
            if not flight.done():
                self._failed_at, self._probe = self._clock(), flight
        return _Answer(reached=False)

    def _decide(self, digest: str, answer: _Answer) -> Principal:
        if not answer.reached:
            return self._trusted(digest, self._clock())
        if answer.principal is None:
            raise _unknown()
        return answer.principal

    def _start(self, digest: str, threads: Executor | None = None) -> Future[_Answer]:
        """Look the key up in a thread, or join the look-up already under way."""
        with self._lock:
            flight = self._flights.get(digest)
            if flight is None:
                try:
                    flight = (threads or self._threads).submit(self._look_up, digest)
                except RuntimeError:  # closed
                    flight = Future[_Answer]()
                    flight.set_result(_Answer(reached=False))
                    return flight
                self._flights[digest] = flight
            return flight

    def _look_up(self, digest: str) -> _Answer:
        # Ages count from before the look-up: what it read may have changed while it returned.
        started = self._clock()
        try:
            answer = self._ask(digest)
        except Exception:
            # Said here because nobody awaits a refresh in the background.
            _logger.exception("a key could not be looked up")
            raise
        else:
            with self._lock:
                self._note(digest, answer, started)
            return answer
        finally:
            with self._lock:
                del self._flights[digest]

    def _ask(self, digest: str) -> _Answer:
        try:
            return _Answer(reached=True, principal=self._find(digest))
        except DatabaseUnavailable as error:
            _logger.warning("a key could not be looked up: %s", error.detail)
            return _Answer(reached=False)

    def _note(self, digest: str, answer: _Answer, started: float) -> None:
        if not answer.reached:
            self._failed_at = self._clock()
            return
        self._failed_at = None
        if answer.principal is None:
            self._known.pop(digest, None)
            _put(self._unknown, digest, started, self._max_unknown)
        else:
            self._unknown.pop(digest, None)
            known = _Known(answer.principal, started, started + self._fresh / 2)
            _put(self._known, digest, known, MAX_KNOWN)

    def _find(self, digest: str) -> Principal | None:
        query = (
            select(ApiKey, Project)
            .join(Project, Project.id == ApiKey.project_id)
            .where(
                ApiKey.token_hash == digest,
                ApiKey.revoked_at.is_(None),
                Project.tombstoned_at.is_(None),
            )
        )
        with self._database.read(EVERY_ROW) as session:
            row = session.execute(query).one_or_none()
        if row is None or not hmac.compare_digest(row[0].token_hash, digest):
            return None
        return self._principal(row[0], row[1])

    def _principal(self, key: ApiKey, project: Project) -> Principal:
        return Principal(
            key_id=key.id,
            kind=key.kind,
            organization_id=key.organization_id,
            project=self._config(project),
            scopes=frozenset(scope for scope in Scope if scope.value in key.scopes),
        )

    def _config(self, project: Project) -> ProjectConfig:
        return ProjectConfig(
            project_id=project.id,
            version=project.config_version,
            capture=project.capture_mode,
            dropped_distinct_ids=frozenset(project.dropped_distinct_ids),
            retention_days=project.retention_days or self._default_retention_days,
            keep_other_spans=project.keep_other_spans is not False,
            redaction=_rules(project.redaction),
        )


def _rules(stored: dict[str, Any] | None) -> RedactionRules | None:
    """What this release cannot read, a later one wrote: until it is upgraded, the project's events
    are refused rather than kept as they are."""
    if stored is None:
        return None
    try:
        rules = read_rules(stored)
    except InvalidRules:
        return UNREADABLE
    if rules is not None:
        redactor_of(rules)  # made here, in a thread: the doors then find it ready
    return rules


def _put(cache: dict[str, _V], key: str, value: _V, limit: int) -> None:
    """Put as the newest; beyond the limit the oldest goes."""
    cache.pop(key, None)
    cache[key] = value
    while len(cache) > limit:
        del cache[next(iter(cache))]


def _digest(token: str) -> str:
    try:
        return tokens.digest(token)
    except ValueError:
        raise _unknown() from None


def _unknown() -> UnknownKey:
    return UnknownKey("no such API key, or it was revoked")


def _unavailable() -> AccessUnavailable:
    return AccessUnavailable("API keys cannot be checked now; try again later")
