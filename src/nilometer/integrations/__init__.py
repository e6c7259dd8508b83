"""Adapters of the providers' own libraries: the caller's client, with its calls tracked.

    client = wrap(OpenAI(), tracker)

None of these libraries is needed by Nilometer: an adapter is loaded with the client it is for.
"""

from __future__ import annotations

import importlib
from typing import TypeVar

from nilometer.sdk.tracker import Tracker

C = TypeVar("C")

_ADAPTERS = {
    "openai": "nilometer.integrations.openai",
    "anthropic": "nilometer.integrations.anthropic",
    "googlemaps": "nilometer.integrations.googlemaps",
    "google.maps.places": "nilometer.integrations.places",
    "google.maps.places_v1": "nilometer.integrations.places",
}
"""By the package of the client's class, or of a class it inherits from."""


def wrap(client: C, tracker: Tracker) -> C:
    """Track the calls of a client, which comes back: it stays the object it is, with the whole of
    its library's surface, and so do the clones it makes. Tracked twice it is tracked once, by the
    later tracker. Raises TypeError for a client that no adapter knows."""
    for kind in type(client).__mro__:
        for package, adapter in _ADAPTERS.items():
            if kind.__module__ == package or kind.__module__.startswith(f"{package}."):
                return importlib.import_module(adapter).wrap(client, tracker)
    raise TypeError(
        f"no adapter knows {type(client).__module__}.{type(client).__qualname__}; there are those "
        "of openai, anthropic, googlemaps and google-maps-places. tracker.record, "
        "tracker.measure and tracked serve anything else"
    )


__all__ = ["wrap"]
