"""The boundary of a `multipart/form-data` content type, by the grammar of RFC 2046."""

from __future__ import annotations

import re

from nilometer.capture.refusals import DecodingFault

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105  (RFC 9110's token, no secret)
_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"'
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*(?:({_TOKEN})=({_TOKEN}|{_QUOTED}))?[ \t]*")
_BCHARS = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_USUAL = re.compile(r"multipart/form-data; ?boundary=([0-9A-Za-z'+_.\-]{1,70})")
_MEDIA_TYPE = "multipart/form-data"


def form_boundary(content_type: bytes | None) -> str:
    """The boundary that a request's content type declares.

    1 to 70 characters of RFC 2046's set, not ending in a space, as a token or a quoted string.
    Raises DecodingFault with the contract's texts.
    """
    value = "" if content_type is None else content_type.decode("latin-1")
    usual = _USUAL.fullmatch(value)
    if usual:
        return usual[1]
    if not value.startswith(_MEDIA_TYPE):
        raise DecodingFault("Content-Type must be multipart/form-data", code="invalid_content_type")
    boundaries = _parameters(value, len(_MEDIA_TYPE)).get("boundary", [])
    if not boundaries:
        raise _invalid("multipart boundary not found")
    if len(boundaries) > 1:
        raise _invalid("more than one boundary parameter")
    if not _BCHARS.fullmatch(boundaries[0]):
        raise _invalid(
            "a boundary is 1 to 70 characters of RFC 2046's set and does not end in a space"
        )
    return boundaries[0]


def _parameters(value: str, position: int) -> dict[str, list[str]]:
    """Every value of each parameter, by lower-case name."""
    found: dict[str, list[str]] = {}
    while position < len(value):
        match = _PARAMETER.match(value, position)
        if match is None:
            raise _invalid("the parameters are malformed")
        name, text = match.groups()
        if name is not None:
            found.setdefault(name.lower(), []).append(_unquoted(text))
        position = match.end()
    return found


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _invalid(reason: str) -> DecodingFault:
    return DecodingFault(f"Invalid boundary in Content-Type: {reason}", code="invalid_boundary")
