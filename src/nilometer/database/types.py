"""Column types that every table shares."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import DateTime, Dialect, Enum, Numeric, Text
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, to the microsecond: aware in Python, UTC in the database.

    A naive datetime is refused with ValueError. SQLite keeps UTC text without a zone, which sorts
    as time does; servers keep a timestamp with time zone.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The moment in UTC; without its zone where the database cannot keep one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone is ambiguous; give one with a zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        """The moment, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ExactDecimal(TypeDecorator[Decimal]):
    """An amount, to the last of its at most 18 digits after the point: NUMERIC on a server, and
    decimal text on SQLite, which has no such type. Zeros at its end are not kept."""

    impl = Numeric(38, 18)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite."""
        kept: TypeEngine[Any] = Text() if dialect.name == "sqlite" else Numeric(38, 18)
        return dialect.type_descriptor(kept)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Decimal | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The amount, or its text."""
        return format(value, "f") if value is not None and dialect.name == "sqlite" else value

    def process_result_value(
        self,
        value: Decimal | str | None,  # pyright: ignore[reportIncompatibleMethodOverride]
        dialect: Dialect,  # noqa: ARG002
    ) -> Decimal | None:
        """The amount, written the same way whatever kept it."""
        return None if value is None else _plain(Decimal(value))


def _plain(value: Decimal) -> Decimal:
    text = format(value, "f")
    return Decimal(text.rstrip("0").rstrip(".") if "." in text else text)


def stored_as_text(kind: type[StrEnum]) -> Enum:
    """A column type that keeps a member's value as text of at most 32 characters.

    It has no CHECK constraint: a new member is then an expansion for which no table is rebuilt.
    """
    return Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=_values,
    )


def _values(kind: type[StrEnum]) -> list[str]:
    return [member.value for member in kind]
