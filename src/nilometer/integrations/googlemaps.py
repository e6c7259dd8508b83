"""The library `googlemaps`: the older Places API and Geocoding, billed by SKU.

    client = wrap(googlemaps.Client(key="…"), tracker)

Every method sends its request by the client's `_request`, which is taken on the instance. It calls
itself to try again: those are retries of one call. Other services of the library pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, TypeVar, cast

from nilometer.integrations.google_skus import LIST_PRICES, legacy_skus
from nilometer.integrations.lookup import Lookup
from nilometer.sdk.tracker import Tracker

C = TypeVar("C")

_STATE = "_nilometer"
_CURRENT: ContextVar[Lookup | None] = ContextVar("nilometer_lookup", default=None)
_OPERATIONS: Mapping[str, str] = {
    "/maps/api/place/details/json": "place",
    "/maps/api/place/findplacefromtext/json": "find_place",
    "/maps/api/place/textsearch/json": "places",
    "/maps/api/place/nearbysearch/json": "places_nearby",
    "/maps/api/place/photo": "places_photo",
    "/maps/api/place/autocomplete/json": "places_autocomplete",
    "/maps/api/place/queryautocomplete/json": "places_autocomplete_query",
    "/maps/api/geocode/json": "geocode",
}
"""The library's method by the path it asks."""


def wrap(client: C, tracker: Tracker, *, prices: Mapping[str, Decimal] = LIST_PRICES) -> C:
    """Track the Places and Geocoding calls of a `googlemaps.Client`. `prices` are dollars a
    billable event by SKU, for those who have prices of their own. Raises TypeError for what is no
    such client."""
    members = vars(client)
    known = _STATE in members
    members[_STATE] = (tracker, prices)
    if known:
        return client
    original = getattr(client, "_request", None)
    if not callable(original):
        raise TypeError(f"{type(client).__qualname__} has no _request: it is no googlemaps.Client")
    members["_request"] = members["_get"] = _request(members, original)
    return client


def _request(members: dict[str, Any], original: Callable[..., Any]) -> Callable[..., Any]:
    def request(url: str, params: Any, *more: Any, **how: Any) -> Any:
        current = _CURRENT.get()
        if current is not None:
            current.retries += 1
            return original(url, params, *more, **how)
        tracker, prices = members[_STATE]
        skus = _skus(url, params)
        if not skus:
            return original(url, params, *more, **how)
        lookup = Lookup(tracker, _OPERATIONS[url], skus, prices)
        token = _CURRENT.set(lookup)
        try:
            result = original(url, params, *more, **how)
        except BaseException as error:
            lookup.end(
                error,
                http_status=getattr(error, "status_code", None),
                error_type=str(getattr(error, "status", "")) or None,
            )
            raise
        finally:
            _CURRENT.reset(token)
        status = getattr(result, "status_code", 200)  # a photo comes as it is, whatever it is
        lookup.end(None if status == 200 else f"HTTP Error: {status}", http_status=status)
        return result

    return request


def _skus(url: str, params: Any) -> tuple[str, ...]:
    asked: Mapping[str, Any] = {}
    if isinstance(params, Mapping):
        asked = cast("Mapping[str, Any]", params)
    fields = asked.get("fields")
    skus = legacy_skus(url, fields.split(",") if isinstance(fields, str) else None)
    if skus == ("legacy_autocomplete",) and asked.get("sessiontoken"):
        return ("autocomplete_session",)
    return skus
