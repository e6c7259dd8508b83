"""Large values sent inside an event: readers find them where they were sent."""

import json
from typing import Any

import pytest

from nilometer import failpoints
from nilometer.api.routes.events import EventAnswer, EventsAnswer
from nilometer.query import events

LARGE = "How high is the river? " * 1000
TEXT = f'{{"$ai_model":"m","$ai_input":[ "{LARGE}",1.10],"n":12345678901234567890123,"$x":null}}'


@pytest.fixture
def project(world):
    return world.project()


def packs(project) -> list[Any]:
    folder = project.world.services.settings.data_dir / "blobs"
    return [path for path in folder.rglob("*.pack") if path.parts[-3] == str(project.id)]


def test_an_event_and_a_list_have_the_very_text_that_was_sent(project):
    uuid = project.store(TEXT)
    assert len(packs(project)) == 1
    for path in (f"events/{uuid}/", "events/"):
        for hydrate in (0, 1):
            answer = project.get(path, hydrate=hydrate)
            assert f'"properties":{TEXT}' in answer.text
    event = project.get(f"events/{uuid}/").json()
    [value] = event["packed"]
    assert (value["property"], value["state"], event["blobs"]) == ("$ai_input", "inlined", [])
    assert value["size"] == len(f'[ "{LARGE}",1.10]')
    EventAnswer.model_validate(event, extra="forbid")
    EventsAnswer.model_validate(project.get("events/").json(), extra="forbid")


def test_the_range_is_read_like_that_of_a_blob_and_by_no_other_project(project):
    event = project.get(f"events/{project.store(TEXT)}/").json()
    [value] = event["packed"]
    answer = project.get("blobs/", url=value["url"])
    assert answer.text == f'[ "{LARGE}",1.10]'
    assert answer.headers["content-type"] == "application/json"
    other = project.world.project()
    refused = other.get("blobs/", url=value["url"])
    assert (refused.status_code, refused.json()["code"]) == (404, "blob_not_found")


def test_blobs_are_put_back_beside_packed_values(project):
    uuid = project.store(TEXT, blobs={"$ai_output": ("text/plain", b"Sixteen cubits.")})
    event = project.get(f"events/{uuid}/", hydrate=1).json()
    assert event["properties"] == {**json.loads(TEXT), "$ai_output": "Sixteen cubits."}
    plain = project.get(f"events/{uuid}/").json()
    assert plain["properties"] == {**json.loads(TEXT), "$ai_output": plain["blobs"][0]["url"]}


def test_an_expired_value_leaves_its_url_and_is_no_error(project):
    uuid = project.store(TEXT, days_ago=40)
    answer = project.get(f"events/{uuid}/")
    assert answer.status_code == 200
    [value] = answer.json()["packed"]
    assert value["state"] == "expired"
    assert answer.json()["properties"]["$ai_input"] == value["url"]
    assert project.get("blobs/", url=value["url"]).status_code == 410


def test_a_value_that_is_gone_or_out_of_reach_says_so(project):
    uuid = project.store(TEXT)
    [path] = packs(project)
    data = path.read_bytes()
    path.unlink()
    assert [v["state"] for v in project.get(f"events/{uuid}/").json()["packed"]] == ["missing"]
    path.mkdir()
    assert [v["state"] for v in project.get(f"events/{uuid}/").json()["packed"]] == ["unavailable"]
    path.rmdir()
    path.write_bytes(data)
    assert f'"properties":{TEXT}' in project.get(f"events/{uuid}/").text


def test_a_page_ends_where_the_values_put_back_fill_it(project, monkeypatch):
    for second in range(5):
        project.send(TEXT, timestamp=f"2025-07-01T00:00:0{second}Z")
    project.world.settle()
    monkeypatch.setattr(events, "MAX_PAGE_BYTES", int(2.5 * len(TEXT)))
    path, sizes = project.path("events/"), []
    while path:
        page = project.world.get(path, project.reader)
        assert page.text.count(f'"properties":{TEXT}') == len(page.json()["results"])
        sizes.append(len(page.json()["results"]))
        path = page.json()["next"]
    assert sizes == [2, 2, 1]


def test_what_does_not_fit_one_answer_keeps_its_url(project, monkeypatch):
    uuid = project.store({"$ai_input": LARGE, "$ai_output": LARGE})
    monkeypatch.setattr("nilometer.query.hydration.Budget.__init__", _small)
    event = project.get(f"events/{uuid}/").json()
    states = {value["property"]: value["state"] for value in event["packed"]}
    assert states == {"$ai_input": "inlined", "$ai_output": "too_large"}
    assert event["properties"]["$ai_input"] == LARGE
    assert event["properties"]["$ai_output"].startswith("file://")


def _small(budget):
    budget.left = len(LARGE) + 100


@pytest.mark.parametrize("name", ['$a"b', "$a\\b", "$é\n水", "", "source", "column"])
def test_any_name_of_a_property_will_do(project, name):
    properties = {name: {"nested": [LARGE, {"deeper": 1}]}, "$ai_model": "m"}
    event = project.get(f"events/{project.store(json.dumps(properties))}/").json()
    assert event["properties"] == properties
    assert [value["property"] for value in event["packed"]] == [name]


def test_a_replayed_dead_letter_is_packed_like_any_other(project):
    """Its payload is the record as its door accepted it; nothing of a pack is in it."""
    failpoints.configure("map=error")
    try:
        uuid = project.store(TEXT)
    finally:
        failpoints.configure("")
    letters = project.world.services.dead_letters
    [letter] = letters.list(project.id).items
    assert LARGE.encode() in letters.get(project.id, letter.id).payload
    letters.replay(project.id, letter.id, actor="ada", log=project.world.services.log)
    project.world.settle()
    assert f'"properties":{TEXT}' in project.get(f"events/{uuid}/").text
    assert len(packs(project)) == 1
