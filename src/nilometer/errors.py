"""Public error types: each carries a code, a sentence for a person, and the fields to act on."""

from __future__ import annotations


class NilometerError(Exception):
    """Base of every error that Nilometer raises on purpose.

    `code` is stable and meant for machines; `detail` is one sentence that says what to change;
    `attr` names the offending field, when there is one.
    """

    code = "error"

    def __init__(self, detail: str, *, code: str | None = None, attr: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.attr = attr
        if code is not None:
            self.code = code


class InvalidInput(NilometerError):
    """What was sent cannot be accepted as it is; sending it again unchanged fails again."""

    code = "invalid_input"


class NotFound(NilometerError):
    """The thing named does not exist in the caller's project."""

    code = "not_found"


class Unavailable(NilometerError):
    """A part that is needed is down or full; the same request may succeed later.

    `retry_after` is the number of seconds a client should wait.
    """

    code = "unavailable"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        attr: str | None = None,
        retry_after: int = 5,
    ) -> None:
        super().__init__(detail, code=code, attr=attr)
        self.retry_after = retry_after


class ConfigurationError(NilometerError):
    """A setting is missing, malformed, or at odds with another."""

    code = "configuration_error"
