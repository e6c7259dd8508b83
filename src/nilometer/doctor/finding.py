"""The nouns of this room: a check, what it says, and what is reported of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """From best to worst, but for `skipped`: a check that needs one that failed."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says: a sentence of what was found and, unless all is well, one of what to do.

    Neither has a secret, nor any text that a server sent: such text can repeat what it was given.
    One that is skipped is so `because` of the check of this name.
    """

    outcome: Outcome
    found: str
    remedy: str = ""
    because: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One question.

    `examine` answers it in a thread of its own, and raises a NilometerError where it cannot:
    that is a failure, with `remedy`. `needs` names checks without which it makes no sense.
    `seconds` is its own bound, where the usual one is not right.
    """

    name: str
    examine: Callable[[], Verdict]
    needs: tuple[str, ...] = ()
    remedy: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that was made, or skipped `because` of the one of this name. It took `seconds`."""

    name: str
    outcome: Outcome
    found: str
    remedy: str = ""
    because: str | None = None
    seconds: float = 0.0


FIRST_START = "Start one process of this release: it brings them up to date first."
FIRST_START_OR_MOVE = (
    "Start one process of this release, which makes them; or, to move an embedded server here, "
    "start none and run `nilometer migrate-data`, which makes them too."
)


def ok(found: str) -> Verdict:
    """All is well."""
    return Verdict(Outcome.OK, found)


def warning(found: str, remedy: str) -> Verdict:
    """It works, and something about it is to be known or mended."""
    return Verdict(Outcome.WARNING, found, remedy)


def failed(found: str, remedy: str) -> Verdict:
    """Nilometer does not work like this, or a promise does not hold."""
    return Verdict(Outcome.FAILED, found, remedy)


def skipped(because: str, found: str) -> Verdict:
    """There is nothing to look at, as the check of this name tells."""
    return Verdict(Outcome.SKIPPED, found, because=because)


def together(verdicts: Sequence[Verdict], otherwise: str) -> Verdict:
    """Several verdicts as one: the worst outcome, and what those that are not well say. When all
    are well, `otherwise`."""
    wrong = [each for each in verdicts if each.outcome is not Outcome.OK]
    if not wrong:
        return ok(otherwise)
    # The worst first: its remedy is the one to begin with.
    wrong.sort(key=lambda each: each.outcome is not Outcome.FAILED)
    return Verdict(
        wrong[0].outcome,
        " ".join(each.found for each in wrong),
        " ".join(dict.fromkeys(each.remedy for each in wrong if each.remedy)),
    )


def in_units(count: int) -> str:
    """A number of bytes, for a person."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(count) >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"


def sentence(text: str) -> str:
    """An error's detail as a sentence: with a capital and a full stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:].rstrip(".") + "."
