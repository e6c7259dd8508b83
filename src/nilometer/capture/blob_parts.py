"""The rules for a blob part's name and headers (contract, section 2, step 10)."""

from __future__ import annotations

import re
from typing import Final

from nilometer.capture.multipart import Part
from nilometer.capture.refusals import ParsingFault

BLOB_PREFIX: Final = "event.properties."
BLOB_TYPES: Final = ("application/octet-stream", "application/json", "text/plain")
MAX_NAME_BYTES: Final = 256
_FORBIDDEN_IN_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f"\u2028\u2029]')
_PLAIN = re.compile(r"[\x20-\x7e]{1,256}")
_CODING = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~\-]{1,64}")


def blob_property(part: Part, taken: set[str]) -> str:
    """The property that a blob part is for, added to `taken`.

    Raises ParsingFault for a nested, invalid or repeated name, and for a content type or encoding
    that is missing, unsupported or malformed; in this order.
    """
    full = part.field
    name = full.removeprefix(BLOB_PREFIX)
    if "." in name:
        raise ParsingFault(
            f"Blob property '{shown(full)}' contains nested properties (dots). "
            "Only top-level properties are allowed.",
            code="nested_blob",
            attr=shown(full),
        )
    if len(name.encode()) > MAX_NAME_BYTES or _FORBIDDEN_IN_NAMES.search(name):
        raise ParsingFault(
            f"Blob property {shown(full)!a} is not a valid name: at most {MAX_NAME_BYTES} bytes, "
            "without quotes, line breaks and control characters",
            code="invalid_blob_name",
        )
    if name in taken:
        raise ParsingFault(f"Duplicate blob property: {full}", code="duplicate_part", attr=full)
    taken.add(name)
    _check_headers(full, part)
    return name


def _check_headers(full: str, part: Part) -> None:
    content_type = part.headers.get("Content-Type")
    if content_type is None:
        raise ParsingFault(
            f"Missing required Content-Type header for blob part '{full}'",
            code="missing_content_type",
            attr=full,
        )
    lowered = content_type.lower()
    if lowered not in BLOB_TYPES and not lowered.startswith("text/plain;"):
        raise ParsingFault(
            f"Unsupported content type for blob part '{full}': '{shown(content_type)}'. "
            f"Supported types: {', '.join(BLOB_TYPES)}",
            code="unsupported_content_type",
            attr=full,
        )
    coding = part.headers.get("Content-Encoding")
    if not _PLAIN.fullmatch(content_type) or not (coding is None or _CODING.fullmatch(coding)):
        raise ParsingFault(
            f"The Content-Type or Content-Encoding header of blob part '{full}' is malformed",
            code="malformed_header",
            attr=full,
        )


def shown(text: str) -> str:
    """Text of a client's for an error message, bounded."""
    return text if len(text) <= MAX_NAME_BYTES else text[: MAX_NAME_BYTES - 3] + "..."
