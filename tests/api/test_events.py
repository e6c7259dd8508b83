import json
from uuid import uuid4

import pytest

from nilometer import failpoints
from nilometer.api.routes.events import EventAnswer, EventsAnswer


@pytest.fixture
def project(world):
    return world.project()


def test_an_event_is_read_back_as_it_was_sent(project):
    text = '{"$ai_model":"m","$ai_trace_id":"t","a":1.10,"b":123456789012345678901}'
    uuid = project.store(text, timestamp="2025-07-01T11:59:55.000001Z")
    answer = project.get(f"events/{uuid}/")
    assert answer.status_code == 200
    assert f'"properties":{text}' in answer.text
    event = answer.json()
    assert event["timestamp"] == "2025-07-01T11:59:55.000001Z"
    assert (event["uuid"], event["event"], event["distinct_id"]) == (uuid, "$ai_generation", "ada")
    assert (event["project_id"], event["trace_id"]) == (project.id, "t")
    assert event["accepted_at"].endswith("Z")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"


def test_answers_are_what_the_openapi_page_says(project):
    uuid = project.store({"$ai_trace_id": "t"}, blobs={"$b": ("text/plain", b"x")})
    for hydrate in (0, 1):
        answer = project.get(f"events/{uuid}/", hydrate=hydrate).json()
        EventAnswer.model_validate(answer, extra="forbid")
        EventsAnswer.model_validate(project.get("events/", hydrate=hydrate).json(), extra="forbid")


def test_pages_are_followed_by_their_links(project):
    sent = [project.send(timestamp=f"2025-07-01T00:00:0{n}Z") for n in range(5)]
    project.world.settle()
    path, seen, pages = project.path("events/?limit=2&distinct_id=ada"), [], 0
    while path:
        assert path.startswith(project.path("events/?"))
        page = project.world.get(path, project.reader).json()
        seen += [event["uuid"] for event in page["results"]]
        previous, path, pages = page["previous"], page["next"], pages + 1
    assert seen == sent[::-1]
    assert pages == 3
    back = project.world.get(previous, project.reader).json()
    assert [event["uuid"] for event in back["results"]] == seen[2:4]


def test_filters_narrow_the_list(project):
    span = project.send(event="$ai_span", timestamp="2025-07-01T00:00:00Z")
    project.store({"$ai_trace_id": "a/b?c&d"}, timestamp="2025-07-02T00:00:00Z")

    def found(**filters):
        return [event["uuid"] for event in project.get("events/", **filters).json()["results"]]

    assert found(event="$ai_span") == [span]
    assert found(before="2025-07-02T00:00:00Z") == [span]
    assert found(after="2025-07-01T02:00:00+02:00", before="2025-07-01T02:00:01+02:00") == [span]
    assert len(found(trace_id="a/b?c&d")) == 1
    assert found(distinct_id="\x00' OR 1=1 --{x:String}%s\\") == []


@pytest.mark.parametrize(
    ("query", "attr"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("limit=1e9", "limit"),
        ("after=yesterday", "after"),
        ("before=2025-07-01T00:00:00", "before"),
        ("after=2025-07-01T00:00:00+02:00", "after"),
        ("cursor=x", "cursor"),
        ("cursor=" + "A" * 3000, "cursor"),
        ("distinctid=ada", "distinctid"),
        ("event=" + "e" * 3000, "event"),
        ("hydrate=perhaps", "hydrate"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_by_name(project, query, attr):
    answer = project.world.get(project.path(f"events/?{query}"), project.reader)
    assert answer.status_code == 400
    error = answer.json()
    assert (error["type"], error["attr"]) == ("validation_error", attr)
    assert set(error) == {"type", "code", "detail", "attr"}


def test_a_refusal_does_not_repeat_what_was_sent(project):
    answer = project.world.get(project.path("events/?limit=my-secret-prompt"), project.reader)
    assert "my-secret" not in answer.text


def test_a_cursor_of_another_project_is_refused(world, project):
    for each in (project, other := world.project()):
        for _ in range(2):
            each.send()
    world.settle()
    link = other.get("events/", limit=1).json()["next"]
    answer = world.get(link.replace(str(other.id), str(project.id)), project.reader)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


@pytest.mark.parametrize("uuid", ["x", "%00", "%2e%2e", "' OR 1=1", "%F0%28", "0" * 32])
def test_an_event_that_does_not_exist_is_not_found(project, uuid):
    answer = project.get(f"events/{uuid}/")
    assert answer.status_code == 404
    assert answer.json() == {
        "type": "invalid_request",
        "code": "not_found",
        "detail": "No such event in this project.",
        "attr": "uuid",
    }


def test_hydrate_puts_blobs_back(project):
    blobs = {
        "$ai_input": ("application/json", b'[{"role":"user","n":1.10}]'),
        "$ai_output": ("text/plain", b"Sixteen cubits."),
        "$image": ("application/octet-stream", b"\x00\xff"),
    }
    uuid = project.store(blobs=blobs)
    plain = project.get(f"events/{uuid}/").json()
    assert [blob["name"] for blob in plain["blobs"]] == list(blobs)
    assert all(plain["properties"][b["name"]] == b["url"] for b in plain["blobs"])
    assert "hydration" not in plain["blobs"][0]

    answer = project.get(f"events/{uuid}/", hydrate=1)
    assert '"$ai_input":[{"role":"user","n":1.10}]' in answer.text
    event = answer.json()
    assert event["properties"]["$ai_output"] == "Sixteen cubits."
    assert event["properties"]["$image"] == "data:application/octet-stream;base64,AP8="
    assert {blob["hydration"] for blob in event["blobs"]} == {"inlined"}
    listed = project.get("events/", hydrate=1).json()["results"]
    assert listed == [event]


def test_a_blob_is_said_to_be_expired_from_when_it_cannot_be_read(project):
    # The last day of the retention: over for the time of day, not for the rule.
    uuid = project.store(blobs={"$b": ("text/plain", b"still here")}, days_ago=30)
    shown = project.get(f"events/{uuid}/").json()
    assert shown["expires_at"].endswith("T00:00:00.000000Z")
    assert shown["blobs"][0]["expired"] is False
    assert project.get("blobs/", url=shown["blobs"][0]["url"]).content == b"still here"

    uuid = project.store(blobs={"$b": ("text/plain", b"gone")}, days_ago=31)
    shown = project.get(f"events/{uuid}/").json()
    assert shown["blobs"][0]["expired"] is True
    assert project.get("blobs/", url=shown["blobs"][0]["url"]).status_code == 410


def test_an_expired_blob_is_said_to_be_expired_and_is_no_error(project):
    uuid = project.store(blobs={"$b": ("text/plain", b"old")}, days_ago=40)
    for hydrate in (0, 1):
        answer = project.get(f"events/{uuid}/", hydrate=hydrate)
        assert answer.status_code == 200
        (blob,) = answer.json()["blobs"]
        assert blob["expired"] is True
    assert blob["hydration"] == "expired"
    assert answer.json()["properties"]["$b"] == blob["url"]


def test_a_store_that_is_down_is_a_503_that_says_when_to_return(project):
    failpoints.configure("store=error")
    try:
        answers = [
            project.get("events/"),
            project.get(f"events/{uuid4()}/"),
            project.get("traces/"),
        ]
    finally:
        failpoints.configure("")
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert project.get("events/").status_code == 200


def test_links_and_slashes_are_optional_at_the_end(project):
    uuid = project.store()
    assert project.get("events").json() == project.get("events/").json()
    assert json.loads(project.get(f"events/{uuid}").text)["uuid"] == uuid


def test_a_call_shows_its_computed_cost_beside_the_reported(project):
    tokens = {"$ai_model": "gpt-4o-mini", "$ai_provider": "openai"}
    tokens |= {"$ai_input_tokens": 1000, "$ai_output_tokens": 100}
    silent = project.send(tokens)
    reporting = project.send({**tokens, "$ai_total_cost_usd": 0.5})
    unknown = project.send({**tokens, "$ai_model": "nobody-knows-it"})
    span = project.send(tokens, event="$ai_span")
    project.world.settle()
    shown = {uuid: project.get(f"events/{uuid}/").json() for uuid in (silent, reporting, unknown)}
    cost = shown[silent]["cost"]
    # 1000 * 0.15 + 100 * 0.60 millionths of a dollar.
    assert (cost["input_usd"], cost["output_usd"], cost["total_usd"]) == (
        *("0.00015", "0.00006", "0.00021"),
    )
    assert (cost["reported_total_usd"], cost["price_source"], cost["reason"]) == (
        *(None, "genai-prices", ""),
    )
    assert shown[silent]["properties"]["$ai_total_cost_usd"] == "0.00021"
    both = shown[reporting]
    assert (both["cost"]["total_usd"], both["cost"]["reported_total_usd"]) == ("0.00021", "0.5")
    assert both["properties"]["$ai_total_cost_usd"] == 0.5
    without = shown[unknown]
    assert without["cost"]["total_usd"] is None
    assert without["cost"]["reason"]
    assert "$ai_total_cost_usd" not in without["properties"]
    assert project.get(f"events/{span}/").json()["cost"] is None
