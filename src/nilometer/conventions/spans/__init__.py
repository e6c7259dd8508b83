"""Spans of every AI convention to events, by one table (`table.ROWS`)."""

from nilometer.conventions.spans.convert import MAPPING_VERSION, convert, kept

__all__ = ["MAPPING_VERSION", "convert", "kept"]
