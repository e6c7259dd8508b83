"""What may be logged of an error that nobody expected."""

from __future__ import annotations


def located(error: BaseException) -> str:
    """Its type and where it was raised, without its text: that may hold what was worked on."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return type(error).__name__
    return f"{type(error).__name__} in {place.tb_frame.f_code.co_name} line {place.tb_lineno}"
