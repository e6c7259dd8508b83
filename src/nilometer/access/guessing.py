"""Slows who tries out keys, and nobody else.

What counts is a pair: an address and a token that it sends for the first time. Each costs one from
the address's allowance (100, and one more a second); one that turns out to be a key is paid back.
A pair seen before costs nothing. So behind a proxy that many share:

- a client that used its key through this address before goes on, whatever others there try;
- a fleet with one wrong key is one guess, however often it asks;
- a key of the shape that the deployment issues is looked up even when the allowance is spent, in a
  line of its own (see `keyring`): it has 256 random bits, so nobody guesses one at any speed, and
  nobody who sends wrong keys can shut out the right ones;
- a key of another shape, which an operator chose and somebody might guess, is then not looked up.
  New to the address it has to wait, and only its first request does.

What is refused then is refused with 429 and `Retry-After`, whether it was looked up or not: a wrong
key, a revoked one, and a chosen one that might be right.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from nilometer.access.types import TooManyGuesses

BURST = 100
PER_SECOND = 1.0
MAX_ADDRESSES = 10_000
MAX_PAIRS = 100_000
"""Beyond these the oldest is forgotten: an address has its allowance again, a pair costs one."""


@dataclass(slots=True)
class _Allowance:
    left: float
    at: float


class GuessLimiter:
    """The allowances of every address. Safe between threads; never blocks.

    `clock` gives seconds and never goes back.
    """

    def __init__(
        self,
        *,
        burst: int = BURST,
        per_second: float = PER_SECOND,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._allowances: dict[str, _Allowance] = {}
        self._pairs: dict[int, None] = {}
        self._lock = threading.Lock()

    def known(self, address: str, token: str) -> bool:
        """Whether this address has sent this token before; about 0.2 µs."""
        return _pair(address, token) in self._pairs

    def begin(self, address: str) -> TooManyGuesses | None:
        """Take one from the allowance before a token new to the address is looked up.

        When nothing is left, returns how such a token is refused.
        """
        now = self._clock()
        with self._lock:
            allowance = self._allowance(_network(address), now)
            if allowance.left < 1:
                wait = (1 - allowance.left) / self._per_second
                return TooManyGuesses("Request was throttled.", retry_after=max(1, round(wait)))
            allowance.left -= 1
            return None

    def end(self, address: str, token: str, *, guess: bool | None) -> None:
        """Say what the look-up found after `begin` took one: a key, no key (a guess), or (None)
        that nobody could look."""
        with self._lock:
            if guess is not None:
                _put(self._pairs, _pair(address, token), MAX_PAIRS)
            if not guess:
                allowance = self._allowance(_network(address), self._clock())
                allowance.left = min(self._burst, allowance.left + 1)

    def remember(self, address: str, token: str) -> None:
        """From now on this address has sent this token, which is a key."""
        with self._lock:
            _put(self._pairs, _pair(address, token), MAX_PAIRS)

    def _allowance(self, network: str, now: float) -> _Allowance:
        found = self._allowances.pop(network, None) or _Allowance(self._burst, now)
        earned = (now - found.at) * self._per_second
        found.left, found.at = min(self._burst, found.left + earned), now
        self._allowances[network] = found
        while len(self._allowances) > MAX_ADDRESSES:
            del self._allowances[next(iter(self._allowances))]
        return found


def _put(pairs: dict[int, None], pair: int, limit: int) -> None:
    pairs[pair] = None
    while len(pairs) > limit:
        del pairs[next(iter(pairs))]


def _pair(address: str, token: str) -> int:
    # Python's own hash of texts is keyed with random bits of the process: no token is kept, and
    # nobody can make two pairs meet. Should two, a look-up is not counted; it is still made.
    return hash((address, token))


def _network(address: str) -> str:
    """What one customer of a network has: an IPv4 address, or the first 64 bits of an IPv6."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
