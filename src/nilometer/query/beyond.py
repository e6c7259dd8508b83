"""Of the values that a read measures one by one, those that are beyond a limit.

Every value is measured and compared by the engine. What comes out is bounded by how many are beyond
the limit, so that a value which few calls have is found among any number of others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum

from nilometer.query.reader import Select

# Texts of senders may hold NUL, and what is kept of them does not (`nilometer.domain.keepable`).
_KEPT = r"replaceAll(value, '\0', '\xEF\xBF\xBD')"
# As `nilometer.alerts.condition.Reading.digest`.
_DIGEST = rf"lower(hex(SHA256(concat(if(began > 0, '\0late\0', ''), {_KEPT}))))"
_LIMIT = "{threshold:String}"


@dataclass(frozen=True, slots=True)
class _Compared:
    """A number in SQL: what it is counted from, whether it is beyond the limit, and how far."""

    counted: str
    beyond: str
    far: str


class Number(Enum):
    """What is compared with a limit: all but MEAN is of calls, and beyond it at the limit or above.
    MEAN is of scores, and beyond it below the limit. In decimals where `nilometer.alerts` compares
    them so."""

    COST = _Compared("calls", f"cost >= toDecimal256({_LIMIT}, 18)", "toFloat64(cost)")
    COST_PER_CALL = _Compared(
        "priced",
        f"cost >= toDecimal256({_LIMIT}, 18) * priced",
        "toFloat64(cost) / greatest(priced, 1)",
    )
    ERROR_RATE = _Compared(
        "calls", f"toDecimal256(errors, 18) >= toDecimal256({_LIMIT}, 18) * calls", "errors / calls"
    )
    # The engine's own number has 32 bits: with so many of the limit, 0.7 is at 0.7.
    LATENCY_P95 = _Compared(
        "timed", f"ifNull(p95, 0) >= toFloat32({_LIMIT})", "toFloat64(ifNull(p95, 0))"
    )
    MEAN = _Compared("count", f"mean < toFloat64({_LIMIT})", "-mean")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """Which values are wanted: those whose `number` is beyond the `threshold` and counted from at
    least `least`; of these at most `most`, the furthest. And those of `besides`, whatever theirs
    is: SHA-256 of values as they are kept, hexadecimal. All this of what came in time, and by
    itself of what came late (`began`)."""

    number: Number
    threshold: Decimal
    least: int
    most: int
    besides: Collection[str] = ()

    def of(self, select: Select) -> Select:
        """The read of the wanted ones, those `besides` first and then the furthest, and of one more
        if there is one; `others` is how many there are that are beyond and not besides. Of windows
        of what came late it is the one in which a value is furthest beyond."""
        sql = self.number.value
        judged = (
            f"*, has({{besides:Array(String)}}, {_DIGEST}) AS besides, {sql.far} AS far, "
            f"({sql.counted} >= {{least:Int64}} AND {sql.beyond}) AS is_beyond",
            "WHERE besides OR is_beyond "
            "ORDER BY is_beyond DESC, if(is_beyond, far, 0) DESC, began "
            "LIMIT 1 BY value, began > 0",
        )
        ordered = (
            "*, sum(NOT besides) OVER (PARTITION BY began > 0) AS others",
            "ORDER BY besides DESC, far DESC, value LIMIT {limit:UInt64} BY began > 0",
        )
        return replace(
            select,
            around=[*select.around, judged, ordered],
            parameters={
                **select.parameters,
                "threshold": f"{self.threshold:f}",
                "least": self.least,
                "besides": list(self.besides),
                "limit": len(self.besides) + self.most + 1,
            },
        )
