"""Public error types: each carries a code, a sentence for a person, and the fields to act on."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without loading typing
if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal


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


class BudgetExceeded(NilometerError):
    """A call was not made: a budget with a hard stop has nothing left.

    `budget` is its name, `scope` and `value` what it is of, `spent` and `limit` are dollars, and
    `ends_at` is when its period ends. With the code `budget_unknown` nobody could be asked, and the
    client library was told to make no call then; there is no budget.
    """

    code = "budget_exceeded"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        budget_id: str | None = None,
        budget: str | None = None,
        scope: str | None = None,
        value: str | None = None,
        spent: Decimal | None = None,
        limit: Decimal | None = None,
        ends_at: datetime | None = None,
    ) -> None:
        super().__init__(detail, code=code)
        self.budget_id = budget_id
        self.budget = budget
        self.scope = scope
        self.value = value
        self.spent = spent
        self.limit = limit
        self.ends_at = ends_at
