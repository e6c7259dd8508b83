"""The real libraries of Google over a session that answers, and a real gRPC server."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import googlemaps
import grpc
import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.maps import places_v1
from google.maps.places_v1.services.places.transports import (
    PlacesGrpcAsyncIOTransport,
    PlacesGrpcTransport,
)
from requests.adapters import BaseAdapter

from nilometer import ClientManager, usage_context
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.integrations import googlemaps as googlemaps_adapter
from nilometer.integrations.google_skus import legacy_skus, new_sku
from tests.integrations.conftest import Metrics

MASK = "x-goog-fieldmask"
DETAILS = "/maps/api/place/details/json"


class Answers(BaseAdapter):
    """Answers each request with the next of (status, body); the last one again and again."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        super().__init__()
        self._answers = list(answers)

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        status, body = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        response = requests.Response()
        response.status_code = status
        response.raw = io.BytesIO(json.dumps(body).encode())
        response.request = request
        response.url = request.url or ""
        return response

    def close(self) -> None:
        """Nothing to close."""


def client(*answers: tuple[int, Any]) -> googlemaps.Client:
    session = requests.Session()
    session.mount("https://", Answers(*(answers or ((200, {"status": "OK", "result": {}}),))))
    return googlemaps.Client(key="AIza-test", requests_session=session)


def test_a_details_call_is_billed_by_its_fields(manager: ClientManager, metrics: Metrics) -> None:
    tracked = manager.wrap(client())
    with usage_context(job_id="nightly"):
        assert tracked.place("p1", fields=["name", "rating"])["status"] == "OK"
    tracked.place("p1", fields=["name"])
    tracked.place("p1")
    found = metrics()
    assert [each.cost_usd for each in found] == [
        Decimal("0.022"),
        Decimal("0.017"),
        Decimal("0.025"),
    ]
    first = found[0]
    assert (first.service, first.model, first.operation) == (
        "google_places",
        "legacy_place_details",
        "place",
    )
    assert (first.job_id, first.http_status, first.status) == ("nightly", 200, "success")
    assert _units(first) == {
        "requests": 1,
        "legacy_place_details": 1,
        "legacy_atmosphere_data": 1,
    }


def test_every_method_of_places_is_recorded_and_others_pass_through(
    manager: ClientManager, metrics: Metrics
) -> None:
    plain = client()
    answer = {"status": "OK", "results": [], "predictions": [], "candidates": []}
    tracked = manager.wrap(client((200, answer)))
    assert set(dir(plain)) <= set(dir(tracked))
    assert type(tracked) is googlemaps.Client
    tracked.places("pizza")
    tracked.places_nearby(location=(1, 2), radius=5)
    tracked.find_place("pizza", "textquery", fields=["place_id"])
    tracked.places_autocomplete("piz")
    tracked.places_autocomplete("piz", session_token="s1")
    tracked.places_autocomplete_query("piz")
    tracked.geocode("here")
    list(tracked.places_photo("ref", max_width=10))
    tracked.timezone((1, 2))
    assert {each.operation: each.cost_usd for each in metrics()} == {
        "places": Decimal("0.040"),
        "places_nearby": Decimal("0.040"),
        "find_place": Decimal(0),
        "places_autocomplete": None,  # the one of a session, whose price its end decides
        "places_autocomplete_query": Decimal("0.00283"),
        "geocode": Decimal("0.005"),
        "places_photo": Decimal("0.007"),
    }
    assert len(metrics()) == 8


@pytest.mark.parametrize(
    ("answer", "error", "kind", "status"),
    [
        (
            (200, {"status": "REQUEST_DENIED"}),
            googlemaps.exceptions.ApiError,
            "REQUEST_DENIED",
            None,
        ),
        ((403, {}), googlemaps.exceptions.HTTPError, "HTTPError", 403),
    ],
)
def test_a_refused_call_is_not_billed(
    manager: ClientManager,
    metrics: Metrics,
    answer: tuple[int, Any],
    error: type[Exception],
    kind: str,
    status: int | None,
) -> None:
    with pytest.raises(error):
        manager.wrap(client(answer)).place("p1")
    (metric,) = metrics()
    assert (metric.status, metric.error_type, metric.http_status) == ("error", kind, status)
    assert metric.cost_usd is None
    assert _units(metric) == {}


@pytest.mark.parametrize(
    "credentials",
    [{"key": "AIza-hidden"}, {"client_id": "gme-hidden", "client_secret": "aGlkZGVu"}],
)
def test_what_cannot_be_reached_is_recorded_without_the_key(
    manager: ClientManager, metrics: Metrics, credentials: dict[str, str]
) -> None:
    tracked = manager.wrap(googlemaps.Client(**credentials, base_url="http://127.0.0.1:1"))
    with pytest.raises(googlemaps.exceptions.TransportError, match="hidden"):
        tracked.place("p1")
    (metric,) = metrics()
    assert metric.error is not None
    assert "placeid=p1" in metric.error
    assert "hidden" not in metric.error
    assert ("signature=[redacted" in metric.error) == ("client_id" in credentials)


def test_no_results_are_billed_and_retries_are_of_one_call(
    manager: ClientManager, metrics: Metrics
) -> None:
    tracked = manager.wrap(client((503, {}), (200, {"status": "ZERO_RESULTS"})))
    tracked.geocode("nowhere")
    (metric,) = metrics()
    assert (metric.status, metric.retries, metric.cost_usd) == ("success", 1, Decimal("0.005"))


def test_prices_of_ones_own_come_first(manager: ClientManager, metrics: Metrics) -> None:
    prices = {"geocoding": Decimal("0.004")}
    googlemaps_adapter.wrap(client(), manager.tracker, prices=prices).geocode("here")
    assert [each.cost_usd for each in metrics()] == [Decimal("0.004")]


@pytest.mark.parametrize(
    ("product", "mask", "sku"),
    [
        ("place_details", "id,photos", "place_details_essentials_ids_only"),
        ("place_details", "id,formattedAddress", "place_details_essentials"),
        ("place_details", "display_name,id", "place_details_pro"),
        ("place_details", "displayName.text,rating", "place_details_enterprise"),
        ("place_details", "reviews", "place_details_enterprise_atmosphere"),
        ("place_details", "*", "place_details_enterprise_atmosphere"),
        ("text_search", "places.id,nextPageToken", "text_search_essentials_ids_only"),
        ("text_search", "places.formattedAddress", "text_search_pro"),
        ("text_search", "places.websiteUri", "text_search_enterprise"),
        ("nearby_search", "places.id", "nearby_search_pro"),
        ("nearby_search", "places.servesBeer", "nearby_search_enterprise_atmosphere"),
    ],
)
def test_a_mask_is_billed_at_its_dearest_field(product: str, mask: str, sku: str) -> None:
    assert new_sku(product, mask) == sku


def test_a_path_that_is_no_places_has_no_sku() -> None:
    assert legacy_skus("/maps/api/timezone/json", None) == ()
    assert legacy_skus(DETAILS, ["opening_hours/periods"]) == (
        "legacy_place_details",
        "legacy_contact_data",
    )


@pytest.fixture(scope="module")
def places_server() -> Iterator[str]:
    """A server of Places (New): a place whose name says so is not found."""
    service = "google.maps.places.v1.Places"

    def get_place(request: Any, context: grpc.ServicerContext) -> Any:
        if request.name == "places/none":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such place")
        return places_v1.Place(id="p1")

    def answer(response: Any) -> Any:
        return lambda request, context: response

    methods: dict[str, tuple[Any, Any, Any]] = {
        "GetPlace": (get_place, places_v1.GetPlaceRequest, places_v1.Place),
        "SearchText": (
            answer(places_v1.SearchTextResponse()),
            places_v1.SearchTextRequest,
            places_v1.SearchTextResponse,
        ),
        "AutocompletePlaces": (
            answer(places_v1.AutocompletePlacesResponse()),
            places_v1.AutocompletePlacesRequest,
            places_v1.AutocompletePlacesResponse,
        ),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            behaviour,
            request_deserializer=asked.deserialize,
            response_serializer=answered.serialize,
        )
        for name, (behaviour, asked, answered) in methods.items()
    }
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_places_new_is_billed_by_its_field_mask(
    manager: ClientManager, metrics: Metrics, places_server: str
) -> None:
    with grpc.insecure_channel(places_server) as channel:
        transport = PlacesGrpcTransport(channel=channel, credentials=AnonymousCredentials())
        plain = places_v1.PlacesClient(transport=transport)
        tracked = manager.wrap(places_v1.PlacesClient(transport=transport))
        assert type(tracked) is places_v1.PlacesClient
        assert set(dir(plain)) <= set(dir(tracked))
        assert inspect.signature(tracked.get_place) == inspect.signature(plain.get_place)
        mask = [(MASK, "id,displayName")]
        assert tracked.get_place(name="places/p1", metadata=mask).id == "p1"
        tracked.search_text({"text_query": "pizza"}, metadata=[(MASK, "places.rating")])
        tracked.autocomplete_places({"input": "piz"})
        tracked.autocomplete_places({"input": "piz", "session_token": "s1"})
        with pytest.raises(exceptions.NotFound):
            tracked.get_place(name="places/none", metadata=mask)
    found = metrics()
    assert [(each.model, each.cost_usd) for each in found] == [
        ("place_details_pro", Decimal("0.017")),
        ("text_search_enterprise", Decimal("0.035")),
        ("autocomplete_requests", Decimal("0.00283")),
        ("autocomplete_session", None),
        ("place_details_pro", None),
    ]
    assert (found[-1].error_type, found[-1].http_status) == ("NotFound", 404)
    assert found[0].operation == "get_place"


def test_the_asynchronous_places_client_is_recorded_alike(
    manager: ClientManager, metrics: Metrics, places_server: str
) -> None:
    async def run() -> None:
        async with grpc.aio.insecure_channel(places_server) as channel:
            transport = PlacesGrpcAsyncIOTransport(
                channel=channel, credentials=AnonymousCredentials()
            )
            tracked = manager.wrap(places_v1.PlacesAsyncClient(transport=transport))
            assert (await tracked.get_place(name="places/p1", metadata=[(MASK, "id")])).id == "p1"

    asyncio.run(run())
    (metric,) = metrics()
    assert (metric.model, metric.cost_usd) == ("place_details_essentials_ids_only", Decimal(0))


def _units(metric: AIUsageMetric) -> dict[str, Decimal]:
    assert metric.usage is not None
    return dict(metric.usage.units)
