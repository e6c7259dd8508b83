"""The patterns that have a name of their own, and how any pattern is compiled.

RE2: its time is linear in the text whatever the pattern, so neither a pattern that people write nor
a text that clients send can hold the server up. Needs the `server` extra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import re2  # pyright: ignore[reportMissingTypeStubs]

from nilometer.domain.redaction import confirming, credentials
from nilometer.domain.redaction.confirming import Span

MAX_PROGRAM = 4000
"""How large a pattern may be compiled: what a text costs at worst is this times its size."""
_MEMORY = 1 << 18
"""In bytes: what programs of that size compile in, and few that are twice as large."""
_RE2 = cast("Any", re2)

Confirm = Callable[[bytes, int, int], Iterator[Span]]


class Found(Protocol):
    """One match."""

    def span(self) -> Span:
        """Where it begins and ends, in bytes."""
        ...


class Regex(Protocol):
    """A compiled pattern, for UTF-8. Safe between threads."""

    programsize: int

    def search(self, text: bytes) -> Found | None:
        """The first match."""
        ...

    def finditer(self, text: bytes) -> Iterator[Found]:
        """Every match, from left to right, none overlapping another."""
        ...


class InvalidPattern(ValueError):
    """No pattern of RE2, or none that may be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Builtin:
    """A pattern of ours. `confirm` gives the spans of a candidate that are meant."""

    regex: str
    description: str
    confirm: Confirm | None = None


_PRIVATE_KEY = r"PRIVATE KEY(?: BLOCK)?-----"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"

BUILTINS: Mapping[str, Builtin] = {
    "email": Builtin(
        # What ends a word ends it; letters of every script are a part of it.
        r"[^\x00-\x20\x22(),:;<>@\[\\\]`{|}\x7f]+@(?:[^\x00-\x2c./:-@\[-`{-\x7f]+\.)+"
        r"[^\x00-@\[-`{-\x7f]{2,}",
        "E-mail addresses.",
    ),
    "credit_card": Builtin(
        r"\b(?:[0-9]{13,19}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{5}"
        r"|[0-9]{4}(?:[ -][0-9]{4}){3,}(?:[ -][0-9]{1,3})?)\b",
        "Numbers of payment cards, whole or in their groups, with a valid checksum (Luhn).",
        confirming.cards,
    ),
    "iban": Builtin(
        r"\b[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]){11,30}",
        "International bank account numbers, with their country's length and a valid checksum.",
        confirming.ibans,
    ),
    "phone": Builtin(
        r"\B\+[1-9](?:[ .()/-]{0,2}[0-9]){7,14}\b",
        "Telephone numbers with their country (E.164): a plus sign, 8 to 15 digits.",
    ),
    "ipv4": Builtin(
        rf"\b(?:{_OCTET}\.){{3}}{_OCTET}\b", "IPv4 addresses; the sender's own is not kept either."
    ),
    "ipv6": Builtin(
        r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}",
        "IPv6 addresses; the sender's own is not kept either.",
        confirming.ipv6_addresses,
    ),
    "us_ssn": Builtin(
        r"\b(?:00[1-9]|0[1-9][0-9]|[1-578][0-9]{2}|6[0-57-9][0-9]|66[0-57-9])"
        r"-(?:0[1-9]|[1-9][0-9])"
        r"-(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})\b",
        "Social security numbers of the United States, with their hyphens.",
    ),
    "api_key": Builtin(
        credentials.API_KEY,
        "Keys of well-known shapes: sk-…, AKIA…, ghp_…, xoxb-…, AIza…, hf_…, nlm_… and others.",
    ),
    "jwt": Builtin(credentials.JWT, "JSON Web Tokens."),
    "bearer_token": Builtin(
        r"(?i)\b(?:bearer|basic)[ :]+[A-Za-z0-9._~+/=-]{16,}",
        "What stands in an Authorization header: Bearer …, Basic ….",
    ),
    "private_key": Builtin(
        rf"(?s)-----BEGIN (?:[A-Z0-9]+ )*{_PRIVATE_KEY}"
        rf".*?(?:-----END (?:[A-Z0-9]+ )*{_PRIVATE_KEY}|\z)",
        "Private keys in PEM, cut short or whole.",
    ),
}
"""Every pattern that has a name of its own."""


def compiled(regex: str, *, most: int = MAX_PROGRAM, captures: bool = False) -> Regex:
    """A pattern, ready to use. Raises InvalidPattern. `most` is how large it may be; `captures`:
    it is counted with its groups, for an engine that keeps what they match."""
    if most <= MAX_PROGRAM:
        # RE2 compiles whole what is to be counted, for seconds and with the interpreter held; with
        # little memory it stops soon.
        _compiled(regex, captures=captures, memory=_MEMORY)
    made = _compiled(regex, captures=captures)
    if made.programsize > most:
        raise InvalidPattern(
            f"it is too large: it compiles to {made.programsize} steps of at most {most}"
        )
    return made


def _compiled(regex: str, *, captures: bool, memory: int | None = None) -> Regex:
    options = _RE2.Options()
    options.log_errors = False  # they would show the pattern on stderr
    options.never_capture = not captures
    if memory is not None:
        options.max_mem = memory
    try:
        return cast("Regex", _RE2.compile(regex.encode(), options))
    except UnicodeEncodeError:
        raise InvalidPattern("it holds half of a surrogate pair") from None
    except _RE2.error as error:
        told = _told(error)
        if memory is not None and told.startswith("pattern too large"):
            raise InvalidPattern(
                f"it is too large: it compiles to more than {MAX_PROGRAM} steps"
            ) from None
        raise InvalidPattern(f"RE2 cannot read it: {told}") from None


def builtin(name: str) -> Regex:
    """A built-in pattern, compiled."""
    return compiled(BUILTINS[name].regex)


def any_of(regexes: list[str]) -> Regex | None:
    """One pattern that matches where any of these does; None when they do not fit into one."""
    try:
        return compiled("|".join(f"(?:{regex})" for regex in regexes), most=1 << 31)
    except InvalidPattern:
        return None


def _told(error: Exception) -> str:
    told = error.args[0] if error.args else b""
    return (told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told))[:200]
