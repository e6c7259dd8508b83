"""What Google Maps Platform bills: SKUs, by the fields that a request asks for, and list prices.

Google bills one SKU a Places (New) request, the dearest that one of its fields belongs to; the
older Places API bills its request and, beside it, the kinds of data that its fields are of.
Sources: "Place Data Fields (New)", "Places API Usage and Billing" and the latter's page of the
older API, of developers.google.com/maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

PRICE_SOURCE = "google-maps-list:2025-03-01"
"""The list prices in force since then, of the first paid tier. What a billing account has free each
month, the discounts of volume and India's own list are the account's affair, not a call's: Google's
invoice may be lower."""

_PER_THOUSAND: Mapping[str, str] = {
    "place_details_essentials_ids_only": "0",
    "place_details_essentials": "5",
    "place_details_pro": "17",
    "place_details_enterprise": "20",
    "place_details_enterprise_atmosphere": "25",
    "text_search_essentials_ids_only": "0",
    "text_search_pro": "32",
    "text_search_enterprise": "35",
    "text_search_enterprise_atmosphere": "40",
    "nearby_search_pro": "32",
    "nearby_search_enterprise": "35",
    "nearby_search_enterprise_atmosphere": "40",
    "place_photos": "7",
    "autocomplete_requests": "2.83",
    "legacy_place_details": "17",
    "legacy_find_place": "17",
    "legacy_find_place_ids_only": "0",
    "legacy_text_search": "32",
    "legacy_nearby_search": "32",
    "legacy_place_photo": "7",
    "legacy_autocomplete": "2.83",
    "legacy_query_autocomplete": "2.83",
    "legacy_contact_data": "3",
    "legacy_atmosphere_data": "5",
    "geocoding": "5",
}
LIST_PRICES: Mapping[str, Decimal] = {
    sku: Decimal(price) / 1000 for sku, price in _PER_THOUSAND.items()
}
"""Dollars a billable event. `autocomplete_session` has none: what a session's requests cost is
known when the session ends, if it does."""

_IDS_ONLY = frozenset({"attributions", "id", "name", "movedPlace", "movedPlaceId"})
_ESSENTIALS = frozenset(
    {
        *("addressComponents", "addressDescriptor", "adrFormatAddress", "formattedAddress"),
        *("location", "plusCode", "postalAddress", "shortFormattedAddress", "types", "viewport"),
    }
)
_PRO = frozenset(
    {
        *("accessibilityOptions", "businessStatus", "containingPlaces", "displayName"),
        *("googleMapsLinks", "googleMapsUri", "iconBackgroundColor", "iconMaskBaseUri"),
        *("primaryType", "primaryTypeDisplayName", "pureServiceAreaBusiness", "subDestinations"),
        *("timeZone", "utcOffsetMinutes"),
    }
)
_ENTERPRISE = frozenset(
    {
        *("currentOpeningHours", "currentSecondaryOpeningHours", "internationalPhoneNumber"),
        *("nationalPhoneNumber", "priceLevel", "priceRange", "rating", "regularOpeningHours"),
        *("regularSecondaryOpeningHours", "userRatingCount", "websiteUri"),
    }
)
_LEVELS = ("essentials_ids_only", "essentials", "pro", "enterprise", "enterprise_atmosphere")
_LEAST: Mapping[str, int] = {"place_details": 0, "text_search": 0, "nearby_search": 2}

_CONTACT = frozenset(
    {
        *("current_opening_hours", "formatted_phone_number", "international_phone_number"),
        *("opening_hours", "secondary_opening_hours", "website"),
    }
)
_ATMOSPHERE = frozenset(
    {
        *("curbside_pickup", "delivery", "dine_in", "editorial_summary", "price_level", "rating"),
        *("reservable", "review", "reviews", "serves_beer", "serves_breakfast", "serves_brunch"),
        *("serves_dinner", "serves_lunch", "serves_vegetarian_food", "serves_wine", "takeout"),
        *("user_ratings_total",),
    }
)


def new_sku(product: str, mask: str) -> str:
    """The SKU of a Places (New) request: `product` is `place_details`, `text_search` or
    `nearby_search`, `mask` its field mask, as Google wants it in X-Goog-FieldMask."""
    fields = {_field(each) for each in mask.split(",") if each.strip()}
    level = max([_LEAST[product], *(_level(product, field) for field in fields)])
    if product == "text_search" and level == 1:
        level = 2
    return f"{product}_{_LEVELS[level]}"


def legacy_skus(path: str, fields: Iterable[str] | None) -> tuple[str, ...]:
    """The SKUs of a request of the older Places API, or of Geocoding, by its path; () for one that
    is not theirs. No fields are all of them, but for Find Place, which answers with ids only."""
    own = _LEGACY.get(path)
    if own is None:
        return ()
    if own in ("legacy_text_search", "legacy_nearby_search"):
        return (own, "legacy_contact_data", "legacy_atmosphere_data")
    if own == "legacy_find_place" and set(fields or ()) <= {"place_id"}:
        return ("legacy_find_place_ids_only",)
    if own not in ("legacy_place_details", "legacy_find_place"):
        return (own,)
    asked = None if fields is None else {each.partition("/")[0] for each in fields}
    data = {"legacy_contact_data": _CONTACT, "legacy_atmosphere_data": _ATMOSPHERE}
    return (own, *(sku for sku, known in data.items() if asked is None or asked & known))


def _field(path: str) -> str:
    """The place's own field in a path of a mask: `places.displayName.text`, `display_name`."""
    parts = path.strip().split(".")
    if parts[0] == "places":
        parts = parts[1:] or ["*"]
    first, *rest = parts[0].split("_")
    return first + "".join(word.capitalize() for word in rest)


def _level(product: str, field: str) -> int:
    if field in _IDS_ONLY or field == "nextPageToken":
        return 0
    if field == "photos":
        return 0 if product == "place_details" else 2
    for level, known in enumerate((_ESSENTIALS, _PRO, _ENTERPRISE), start=1):
        if field in known:
            return level
    return 4  # the rest, and "*"


_LEGACY: Mapping[str, str] = {
    "/maps/api/place/details/json": "legacy_place_details",
    "/maps/api/place/findplacefromtext/json": "legacy_find_place",
    "/maps/api/place/textsearch/json": "legacy_text_search",
    "/maps/api/place/nearbysearch/json": "legacy_nearby_search",
    "/maps/api/place/photo": "legacy_place_photo",
    "/maps/api/place/autocomplete/json": "legacy_autocomplete",
    "/maps/api/place/queryautocomplete/json": "legacy_query_autocomplete",
    "/maps/api/geocode/json": "geocoding",
}
