"""Every setting, once: `Settings`, as `load` reads it from the environment and a file."""

from __future__ import annotations

from nilometer.settings.operation_settings import read_weights
from nilometer.settings.process_settings import CAPTURES, READS, WORKS, Profile, Role
from nilometer.settings.settings import Settings, load, origins

__all__ = [
    "CAPTURES",
    "READS",
    "WORKS",
    "Profile",
    "Role",
    "Settings",
    "load",
    "origins",
    "read_weights",
]
