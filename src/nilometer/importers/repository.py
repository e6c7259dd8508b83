"""What a repository may be called, so that its name can be part of a path.

    owner/name          GitHub, Bitbucket
    group/sub/name      GitLab, at most four parts in all
    name                where a source knows no owner

A name is accepted by what it is made of, never mended: nothing is stripped or replaced until it
fits. So no accepted name holds `..`, a separator that is not between two parts, an escape such as
`%2e`, a control character or a look-alike of another script, begins with a dot, or means a device
on Windows.
"""

from __future__ import annotations

import re

from nilometer.errors import InvalidInput

MAX_PARTS = 4
MAX_PART_CHARS = 100
MAX_CHARS = 200

_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?!\.))*", re.ASCII)
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul"}
    | {f"{name}{number}" for name in ("com", "lpt") for number in range(10)}
)


def checked(slug: str) -> str:
    """The name as it is given. Raises InvalidInput for one that no repository has."""
    if fault := _fault(slug):
        raise InvalidInput(f"the repository {_shown(slug)} {fault}", code="bad_repository")
    return slug


def is_safe(slug: str) -> bool:
    """Whether `checked` takes it."""
    return not _fault(slug)


def folder(slug: str) -> str:
    """The name as one part of a path, the same for every spelling of its letters: hosts take
    `Acme/App` and `acme/app` for one, and so do some file systems. Raises InvalidInput."""
    return checked(slug).lower().replace("/", "%2F")


def _fault(slug: str) -> str:
    if not slug or len(slug) > MAX_CHARS:
        return f"has not 1 to {MAX_CHARS} characters"
    parts = slug.split("/")
    if len(parts) > MAX_PARTS:
        return f"has more than {MAX_PARTS} parts"
    return next((fault for part in parts if (fault := _part_fault(part))), "")


def _part_fault(part: str) -> str:
    if len(part) > MAX_PART_CHARS:
        return f"has a part of more than {MAX_PART_CHARS} characters"
    if not _PART.fullmatch(part) or part.endswith("."):
        return (
            "is not owner/name of letters, digits, `-`, `_` and `.`, each part beginning with "
            "one of the first three"
        )
    if part.partition(".")[0].lower() in _RESERVED:
        return "has a part that is the name of a device"
    return ""


def _shown(slug: str) -> str:
    return ascii(slug if len(slug) <= MAX_PART_CHARS else f"{slug[:MAX_PART_CHARS]}…")
