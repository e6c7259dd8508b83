"""lz-string's `compressToBase64` (`compression=lz64`), undone with a limit on the result.

Old versions of posthog-js send it. The package on PyPI has no limit, and a kilobyte of it can hold
megabytes. The format: LZ78 over UTF-16 code units, codes of growing width, the least significant
bit first, packed into base64's six-bit digits.
"""

from __future__ import annotations

from nilometer.capture.refusals import DecodingFault, TooBig

MAX_BYTES = 1024 * 1024
"""What is taken of it, in base64: undoing it is work in Python, half a second for so much."""

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_DIGITS = {ord(digit): f"{value:06b}" for value, digit in enumerate(_ALPHABET)}
_BYTE, _UNIT, _END = 0, 1, 2  # codes: a new code unit of 8 or 16 bits follows; the text ends


def decompress_base64(data: bytes, limit: int) -> bytes:
    """The text in UTF-8. Raises DecodingFault, and TooBig past `limit` bytes of it, or for more
    than a mebibyte of input."""
    if len(data) > MAX_BYTES:
        raise TooBig(f"an lz64 body may have {MAX_BYTES} bytes, this one has {len(data)}")
    text = data.decode("ascii", "replace").rstrip("=")
    bits = text.translate(_DIGITS)
    if len(bits) != 6 * len(text):
        raise _fault("a character is not of base64")
    units = _Codes(bits).text(limit)
    try:
        decoded = units.encode("utf-16-le", "surrogatepass").decode("utf-16-le").encode()
    except UnicodeDecodeError:
        raise _fault("the text has half of a surrogate pair") from None
    if len(decoded) > limit:
        raise _too_big(limit)
    return decoded


class _Codes:
    """The codes of one text."""

    def __init__(self, bits: str) -> None:
        self._bits = bits
        self._at = 0
        self._width = 2
        self._known: list[str] = ["", "", ""]  # the first three codes are no texts
        self._until_wider = 1

    def text(self, limit: int) -> str:
        """All of it, as UTF-16 code units."""
        found: list[str] = []
        size = 0
        before = ""
        while (code := self._code()) != _END:
            entry = self._entry(code, before)
            size += len(entry)
            if size > limit:
                raise _too_big(limit)
            found.append(entry)
            if before:
                self._learn(before + entry[0])
            before = entry
        return "".join(found)

    def _code(self) -> int:
        return self._number(self._width)

    def _entry(self, code: int, before: str) -> str:
        if code in (_BYTE, _UNIT):
            unit = chr(self._number(8 if code == _BYTE else 16))
            self._learn(unit)
            return unit
        if code < len(self._known):
            return self._known[code]
        if code == len(self._known) and before:
            return before + before[0]
        raise _fault("a code refers to nothing")

    def _learn(self, entry: str) -> None:
        self._known.append(entry)
        self._until_wider -= 1
        if self._until_wider == 0:
            self._until_wider = 1 << self._width
            self._width += 1

    def _number(self, width: int) -> int:
        digits = self._bits[self._at : self._at + width]
        if len(digits) < width:
            raise _fault("the compressed data is truncated")
        self._at += width
        return int(digits[::-1], 2)


def _too_big(limit: int) -> TooBig:
    return TooBig(f"decompressed body exceeds maximum size ({limit} bytes)")


def _fault(reason: str) -> DecodingFault:
    return DecodingFault(f"Failed to decompress lz64 body: {reason}", code="invalid_lz64")
