"""Every route is in docs/api.md and on the OpenAPI page, and the schemas are published."""

import json
import re
from html import unescape
from pathlib import Path

import jsonschema_rs
import pytest

from nilometer.api import reference
from nilometer.conventions.ai_properties import EVENT_TYPES
from tests.api.test_access import ROUTES

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
EXCEPTIONS_PAGE = PAGE.with_name("exceptions.md")
SHOWN = [
    name.replace(":path", "") + "/"
    for name in ROUTES
    if any(
        part in name
        for part in (" /api/projects", " /api/organizations", " /api/dead", " /api/price")
    )
]
SHOWN += ["GET /api/log/", "POST /api/pipeline/resume/", "GET /api/schemas/"]
SHOWN += ["GET /api/schemas/{name}", "GET /ai_usage/"]

# On the OpenAPI page.
PUBLISHED = {
    name.replace(":path", "").removesuffix("/")
    for name in ROUTES
    if not name.endswith((" /docs", " /openapi.json"))
}
OF_EXCEPTIONS = [
    f"{name}/" for name in ROUTES if re.search(" /(exceptions|approvals|ops/(dlq|sla|work))", name)
]


@pytest.mark.parametrize("route", [*SHOWN, *OF_EXCEPTIONS])
def test_a_route_has_a_section_with_an_example(route):
    page = EXCEPTIONS_PAGE if route in OF_EXCEPTIONS else PAGE
    sections = page.read_text().split("\n### ")
    section = next((each for each in sections if each.startswith(f"`{route}`")), None)
    assert section, f"{page.name} has no section ### `{route}`"
    _, _, example = section.partition("```sh")
    words = [word for word in route.split(" ")[1].split("/") if word and "{" not in word]
    for word in set(words) - {"api", "projects"}:
        assert f"/{word}/" in example


@pytest.mark.parametrize(("page", "shown"), [(PAGE, SHOWN), (EXCEPTIONS_PAGE, OF_EXCEPTIONS)])
def test_the_page_documents_no_route_that_does_not_exist(page, shown):
    sections = page.read_text().split("\n### ")[1:]
    named = {each.split("`")[1] for each in sections if each.startswith("`")}
    assert named == set(shown)


def test_the_openapi_page_has_every_route_once_with_its_errors(world):
    document = world.get("/openapi.json", None).json()
    operations = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert {name.removesuffix("/") for name in operations} == PUBLISHED
    listing = document["paths"]["/api/projects/{project_id}/events/"]["get"]
    assert {"200", "400", "401", "403", "404", "503"} <= set(listing["responses"])
    assert listing["security"]


def test_the_reference_page_has_every_route_and_asks_no_other_host(world):
    answer = world.get("/docs", None)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = answer.text
    shown = {unescape(each) for each in re.findall(r'<h2 id="[^"]+">(.+?)</h2>', page)}
    assert {name.removesuffix("/") for name in shown} == PUBLISHED
    anchors, ids = re.findall('href="#([^"]+)"', page), re.findall('id="([^"]+)"', page)
    assert anchors == ids
    assert not re.findall(r"<script|<link|<img|<iframe|https?:|//\w|@import|url\(", page)
    for told in ("From this time on, included.", "<code>Retry-After</code>", "reason"):
        assert told in page


def test_the_reference_page_marks_up_nothing_that_the_document_says():
    operation = {
        "operationId": "a",
        "description": "<script>1</script> & `<b>`",
        "parameters": [{"name": '<i>"', "in": "query", "description": "<u>"}],
        "responses": {"200": {"description": "<s>"}},
    }
    paths = {"/<p>": {"get": operation}}
    page = reference.page({"info": {"title": "<t>", "version": "1"}, "paths": paths})
    for tag in ("<script>", "<b>", "<i>", "<u>", "<s>", "<p></h2>", "<t>"):
        assert tag not in page
    assert "&lt;script&gt;1&lt;/script&gt; &amp; <code>&lt;b&gt;</code>" in page


def test_the_schemas_are_published_as_they_are_enforced(world):
    listed = world.get("/api/schemas/", None).json()["results"]
    assert len(listed) == len(EVENT_TYPES) + 1  # and that of packs
    for each in listed:
        answer = world.get(each["url"], None)
        assert answer.headers["content-type"] == "application/schema+json"
        schema = json.loads(answer.content)
        jsonschema_rs.meta.validate(schema)
        assert world.get(each["url"] + "/", None).content == answer.content
    assert world.get("/api/schemas/none", None).status_code == 404
    assert world.get("/api/schemas/../settings", None).status_code == 404
