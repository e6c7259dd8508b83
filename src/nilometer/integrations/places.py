"""The library `google-maps-places`: Places (New), billed by the fields that are asked for.

    client = wrap(places_v1.PlacesClient(), tracker)

Its five methods are taken on the instance. The field mask is the call's own metadata
(`x-goog-fieldmask`); a call without one is refused by Google.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from functools import wraps
from typing import Any, TypeVar, cast

from nilometer.integrations.google_skus import LIST_PRICES, new_sku
from nilometer.integrations.lookup import Lookup
from nilometer.sdk.tracker import Tracker

C = TypeVar("C")

_STATE = "_nilometer"
_PRODUCTS: Mapping[str, str] = {
    "get_place": "place_details",
    "search_text": "text_search",
    "search_nearby": "nearby_search",
    "get_photo_media": "place_photos",
    "autocomplete_places": "autocomplete_requests",
}


def wrap(client: C, tracker: Tracker, *, prices: Mapping[str, Decimal] = LIST_PRICES) -> C:
    """Track the calls of a `PlacesClient` or `PlacesAsyncClient`. `prices` are dollars a billable
    event by SKU, for those who have prices of their own. Raises TypeError for what is no such
    client."""
    members = vars(client)
    known = _STATE in members
    members[_STATE] = (tracker, prices)
    if known:
        return client
    for name in _PRODUCTS:
        original = getattr(client, name, None)
        if not callable(original):
            raise TypeError(f"{type(client).__qualname__} has no {name}: it is no PlacesClient")
        wrapper = _awaited if inspect.iscoroutinefunction(original) else _called
        members[name] = wrapper(members, name, cast("Any", original))
    return client


def _called(members: dict[str, Any], name: str, original: Callable[..., Any]) -> Any:
    @wraps(original)
    def call(*args: Any, **how: Any) -> Any:
        lookup = _lookup(members, name, args, how)
        try:
            result = original(*args, **how)
        except BaseException as error:
            _fail(lookup, error)
            raise
        lookup.end(http_status=200)
        return result

    return call


def _awaited(members: dict[str, Any], name: str, original: Callable[..., Awaitable[Any]]) -> Any:
    @wraps(original)
    async def call(*args: Any, **how: Any) -> Any:
        lookup = _lookup(members, name, args, how)
        try:
            result = await original(*args, **how)
        except BaseException as error:
            _fail(lookup, error)
            raise
        lookup.end(http_status=200)
        return result

    return call


def _lookup(
    members: dict[str, Any], name: str, args: tuple[Any, ...], how: Mapping[str, Any]
) -> Lookup:
    tracker, prices = members[_STATE]
    sku = _PRODUCTS[name]
    if name == "autocomplete_places" and _session(args[0] if args else how.get("request")):
        sku = "autocomplete_session"
    elif name in ("get_place", "search_text", "search_nearby"):
        sku = new_sku(sku, _mask(how.get("metadata")))
    return Lookup(tracker, name, (sku,), prices)


def _session(request: Any) -> bool:
    if isinstance(request, Mapping):
        return bool(cast("Mapping[str, Any]", request).get("session_token"))
    return bool(getattr(request, "session_token", ""))


def _mask(metadata: Any) -> str:
    """The mask, "" where the call has none."""
    for name, value in metadata or ():
        if str(name).lower() == "x-goog-fieldmask":
            return value.decode() if isinstance(value, bytes) else str(value)
    return ""


def _fail(lookup: Lookup, error: BaseException) -> None:
    code = getattr(error, "code", None)
    lookup.end(error, http_status=int(code) if isinstance(code, int) else None)
