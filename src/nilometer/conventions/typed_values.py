"""From a JSON value to a column's value: each reader returns None for what it cannot hold.

Readers never raise and never guess: records of laxer doors pass here too, and the value as sent
stays in the event's properties. Numbers may be int, float or Decimal (a JSON number read exactly).
What a reader takes is what the JSON Schema of the same kind accepts (`kinds.py`); a property test
holds the two together.
"""

from __future__ import annotations

import json
import math
import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

MAX_INT64 = 2**63 - 1
MAX_NAME_CHARS = 1024  # ids and names are sorted, indexed and grouped by
MAX_SECONDS = 10**9  # 31 years; a latency above it is an epoch timestamp or another unit
MAX_USD = 10**15  # Decimal(38, 18) holds 20 digits before the point
MAX_HTTP_STATUS = 999
USD_PATTERN = r"[0-9]{1,15}(\.[0-9]{1,40})?([eE]-[0-9]{1,3})?"

_USD = re.compile(USD_PATTERN)
_ATTO = Decimal("1e-18")
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_MAX_SAFE_JS_INTEGER = 1e21  # from here on JavaScript writes a whole number with an exponent
_MAX_ID_BITS = 3400  # 1,024 digits


def text(value: Any) -> str | None:
    """A non-empty string that UTF-8 can hold (no half of a surrogate pair)."""
    if not isinstance(value, str) or not value:
        return None
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def name(value: Any) -> str | None:
    """A text of at most 1,024 characters."""
    if type(value) is str and 0 < len(value) <= MAX_NAME_CHARS and value.isascii():
        return value
    return text(value) if isinstance(value, str) and len(value) <= MAX_NAME_CHARS else None


def normalise_id(value: Any) -> str | None:
    """An id as text: numbers and booleans as JavaScript writes them, objects and arrays dropped.

    So `1`, `1.0` and `"1"` are one id, and `true` is `"true"` (capture contract, section 8). The
    empty string is no id: LiteLLM sends it for "none", and it would join strangers' traces.
    """
    if isinstance(value, str):
        return name(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return name(str(value)) if value.bit_length() <= _MAX_ID_BITS else None
    if isinstance(value, (float, Decimal)):
        return _number_id(float(value)) if math.isfinite(value) else None
    return None


def count(value: Any) -> int | None:
    """A whole number from 0 to 2^63-1; `5.0` is 5."""
    whole = _whole(value)
    return whole if whole is not None and 0 <= whole <= MAX_INT64 else None


def http_status(value: Any) -> int | None:
    """An HTTP status; 0 is how SDKs say that there was none."""
    whole = _whole(value)
    return whole if whole is not None and 0 < whole <= MAX_HTTP_STATUS else None


def seconds(value: Any) -> float | None:
    """A duration of 0 to 10^9 seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    return float(value) if _within(value, MAX_SECONDS) else None


def usd(value: Any) -> str | None:
    """An amount of 0 to 10^15 USD as exact decimal text without an exponent.

    A float becomes the shortest decimal that names it, not its binary expansion. Digits past the
    18th after the point, which Decimal(38, 18) cannot hold, are rounded half to even; the text as
    sent stays in the properties.
    """
    number = _decimal(value)
    if number is None or not _within(number, MAX_USD):
        return None
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -18:
        number = number.quantize(_ATTO, context=_EXACT)
    # 0e999999999 is a zero too, and written out would fill the memory.
    return format(number, "f") if number else "0"


def flag(value: Any) -> bool:
    """True for `true` and `"true"` only (capture contract, section 7)."""
    return value is True or value == "true"


def message(value: Any) -> str | None:
    """A text as it is; anything else but null as compact JSON text."""
    if value is None or isinstance(value, str):
        return text(value)
    try:
        written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)
    except (RecursionError, TypeError, ValueError):
        return None
    return text(written)


def _number_id(value: float) -> str:
    if value.is_integer() and abs(value) < _MAX_SAFE_JS_INTEGER:
        return str(int(value))
    return repr(value)


def _whole(value: Any) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Decimal) and _within(value, MAX_INT64) and value == int(value):
        return int(value)
    return None


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, str):
        return Decimal(value) if _USD.fullmatch(value) else None
    if isinstance(value, float):
        return Decimal(repr(value))
    return Decimal(value) if type(value) is int and _within(value, MAX_USD) else None


def _within(value: float | Decimal, maximum: int) -> bool:
    if isinstance(value, Decimal) and not value.is_finite():
        return False  # comparing a Decimal NaN raises
    return 0 <= value <= maximum


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
