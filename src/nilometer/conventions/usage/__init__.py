"""Token vectors: each source's usage, by tables, to one disjoint vector or a reason why not."""

from nilometer.conventions.usage.adapters import ADAPTERS
from nilometer.conventions.usage.detection import convention_of_scope, detect
from nilometer.conventions.usage.event import read

__all__ = ["ADAPTERS", "convention_of_scope", "detect", "read"]
