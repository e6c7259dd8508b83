"""Credentials in the texts of errors: libraries quote there the URLs and headers that they sent."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nilometer.domain.redaction.credentials import API_KEY, JWT
from nilometer.domain.redaction.rules import replacement

REPLACED = replacement("credential")
_BEYOND = 4096
"""Characters behind the end of what is kept that are looked at, so that a credential which the end
cuts in two is known for what it is."""

_PARAMETER = (
    r"[\w.-]{0,40}(?:key|token|secret|password|passwd|pwd|signature|credential)"
    r"|sig|client|auth|authorization|jwt|x-(?:goog|amz)-[\w-]{1,40}"
)
_NAME = (
    r"[Kk](?i:ey(?:(?<=[_-]key)|(?<=apikey)))"
    r"|[Tt](?i:oken(?:(?<=[_-]token)|(?<=accesstoken)|(?<=authtoken)))"
    r"|[Ss](?i:ecret|ignature)|[Pp](?i:assword|asswd|wd)|[Aa](?i:uthorization)"
)
# What stands before a credential is the group, if there is one. Each begins with one of a few
# characters, which is what makes the search fast.
_CREDENTIALS = tuple(
    map(
        re.compile,
        (
            # ?key=…, also where the URL is itself a parameter of another
            rf"((?:[?&;]|%(?:3[Ff]|26))(?i:{_PARAMETER})(?:=|%3[Dd]))[^\s&\"'<>#\\]+",
            # api_key=…, "password": "…", Authorization: Bearer …
            rf"((?:{_NAME})[\"']{{0,2}}\s{{0,3}}[:=]\s{{0,3}}(?:b?[\"'])?"
            r"(?i:(?:basic|bearer|token)\s{1,3})?)[^\s,;\"'<>\\]+",
            r"([Bb](?i:asic|earer)[ :]{1,3})[A-Za-z0-9._~+/=-]{16,}",
            r"(://)[^\s/?#\"'<>]+(?=@)",
            API_KEY,
            JWT,
        ),
    )
)


def without_credentials(text: str, most: int) -> str:
    """The first so many characters of a text, with `REPLACED` for each credential in them."""
    pieces: list[str] = []
    done = 0
    for start, end in sorted(_spans(text[: most + _BEYOND])):
        if start >= most:
            break
        if start >= done:
            pieces += (text[done:start], REPLACED)
        done = max(done, end)
    return "".join((*pieces, text[done:most]))[:most]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for credential in _CREDENTIALS:
        for found in credential.finditer(text):
            yield (found.end(1) if credential.groups else found.start()), found.end()
