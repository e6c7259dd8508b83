"""Errors as a ClickHouse server tells them over HTTP."""

from __future__ import annotations

import re

_CODE = re.compile(r"Code: (\d+)\.")
# A server's choice (src/Server/HTTP/exceptionCodeToHTTPStatus.cpp), of what tests meet.
_STATUSES = {57: 500, 60: 404, 62: 400, 81: 404, 159: 504, 202: 429, 252: 429, 497: 403, 516: 403}


class Refused(Exception):
    """A request that ends in an error: its code, the text of its body and its HTTP status."""

    def __init__(self, code: int, name: str, sentence: str, *, status: int | None = None) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {sentence} ({name}) (version 26.9.2.1)\n")
        self.code = code
        self.status = status or _STATUSES.get(code, 500)


class EngineRefused(Refused):
    """The engine's own error, its text as a server passes it on."""

    def __init__(self, error: Exception) -> None:
        # chDB cannot read a text that quotes bytes which are no UTF-8.
        unread = next((e for e in (error, error.__cause__) if isinstance(e, UnicodeDecodeError)), 0)
        text = unread.object.decode(errors="replace") if unread else str(error)
        match = _CODE.search(text)
        code = int(match[1]) if match else 1001
        Exception.__init__(self, f"{text[text.find('Code:') :].strip()} (version 26.9.2.1)\n")
        self.code = code
        self.status = _STATUSES.get(code, 500)
