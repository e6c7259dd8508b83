"""What can go wrong between Nilometer and the store, in two types: wait, or do not repeat.

The engine's own text may quote the data that it failed on, so it is dropped here: neither error
carries it, and neither is chained to the error that does.
"""

from __future__ import annotations

import re

from nilometer.errors import NilometerError, Unavailable

# The value is at fault: the same row fails again. ClickHouse's ErrorCodes.cpp; the codes that
# parsing a row or converting a value ends with.
DATA_CODES = frozenset(
    {
        *(6, 25, 26, 27, 28, 31, 32, 33),  # cannot parse text, escapes, quotes; read past the end
        *(38, 41, 42, 43, 53, 69, 70, 72),  # dates, types, bounds, conversions, numbers
        *(117, 128, 130, 131, 190),  # malformed JSON; arrays and strings too large
        *(301, 349, 376, 407, 441, 469, 675, 691),  # nulls, uuids, decimals, constraints, addresses
    }
)
# The machine or the moment is at fault: the same statement may succeed later.
MOMENT_CODES = frozenset(
    {
        *(3, 23, 24, 74, 75, 76, 87, 88, 173),  # files and directories cannot be read or written
        *(159, 160, 202, 203, 209, 210, 236, 241, 242, 243, 252),  # time, load, memory, disk, parts
        *(225, 285, 286, 319, 335, 394, 439, 499, 519, 598, 999, 1000, 1001, 1002),
    }
)
_CODE = re.compile(r"Code: (\d+)\.")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)")


class StoreUnavailable(Unavailable):
    """The store did not do it now; the same statement may succeed later."""

    code = "store_unavailable"


class StoreRejected(NilometerError):
    """The store refused the statement or its data; repeating it unchanged fails again.

    `engine_code` and `engine_name` are ClickHouse's number and name of the error.
    """

    code = "store_rejected"

    def __init__(self, detail: str, *, engine_code: int, engine_name: str) -> None:
        super().__init__(detail)
        self.engine_code = engine_code
        self.engine_name = engine_name


def engine_error(error: Exception) -> tuple[int, str]:
    """ClickHouse's number and name of an engine error; (0, "") when it carries none."""
    text = str(error)
    code = _CODE.search(text)
    names: list[str] = _NAME.findall(text)
    return (int(code[1]) if code else 0, names[-1] if names else "")


def of_insert(error: Exception, table: str) -> StoreUnavailable | StoreRejected:
    """The error of an insert: rejected only when the data is known to be at fault, because what is
    rejected ends in the dead letters and what is unavailable waits."""
    code, name = engine_error(error)
    if code in DATA_CODES:
        return StoreRejected(
            f"the store refused a row of {table} (error {code}, {name})",
            engine_code=code,
            engine_name=name,
        )
    return StoreUnavailable(f"the store did not take rows of {table} (error {code}, {name})")


def of_statement(error: Exception) -> StoreUnavailable | StoreRejected:
    """The error of a query or command: unavailable when the moment is at fault."""
    code, name = engine_error(error)
    if code in MOMENT_CODES or code == 0:
        return StoreUnavailable(f"the store did not answer (error {code}, {name})")
    return StoreRejected(
        f"the store refused a statement (error {code}, {name})", engine_code=code, engine_name=name
    )


def of_open(error: Exception) -> StoreUnavailable:
    """The error of opening the engine: another process may have it, or its disk be away."""
    code, name = engine_error(error)
    return StoreUnavailable(f"the store's engine cannot be opened (error {code}, {name})")
